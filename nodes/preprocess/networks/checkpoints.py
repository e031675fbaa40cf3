"""Weights into networks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ....inference.weight_files import WeightFileError, load_state_dict

State = Mapping[str, Any]


def filled(
    make: Callable[[], nn.Module], path: Path, change: Callable[[State], State] = dict
) -> nn.Module:
    """What `make` makes, with the weights in `path`: on the CPU, fp32, in eval mode.

    `change` turns the names and tensors of the file into those of the network; a `KeyError` of
    it means that they are another network's. No random numbers are drawn. Raises
    `WeightFileError`, `FileNotFoundError`.
    """
    with torch.device("meta"):
        network = make()
    try:
        network.load_state_dict(change(load_state_dict(path)), assign=True)
    except KeyError as error:
        raise WeightFileError(
            path, f"it has no weights called {error}: another network's."
        ) from error
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]] or [str(error)]
        raise WeightFileError(
            path, f"its weights are another network's. {' '.join(lines)[:300]}"
        ) from error
    return network.eval().float().requires_grad_(False)
