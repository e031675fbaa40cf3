"""Weights from a file into a network."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ....inference.weight_files import WeightFileError, load_state_dict

State = Mapping[str, Any]


def make_empty(make: Callable[[], nn.Module]) -> nn.Module:
    """The network that `make` makes, on the meta device: numbers that are replaced cost seconds.

    On the CPU where that cannot be: older versions of timm read numbers while they make one.
    """
    try:
        with torch.device("meta"):
            return make()
    except (RuntimeError, NotImplementedError):
        return make()


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """`network` with the weights `state` of `path`, fp32 and in eval mode.

    A network on the meta device takes the tensors themselves. Raises `WeightFileError` where
    names or shapes do not fit.
    """
    on_meta = any(value.is_meta for value in network.state_dict().values())
    try:
        network.load_state_dict(dict(state), assign=on_meta)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]] or [str(error)]
        raise WeightFileError(
            path, f"its weights are those of another network: {' '.join(lines)[:300]}"
        ) from error
    return network.eval().float().requires_grad_(False)


def make_filled(
    make: Callable[[], nn.Module], path: Path, change: Callable[[State], State] = dict
) -> nn.Module:
    """What `make` makes on the meta device, with the weights in `path`.

    On the CPU, fp32, in eval mode. `change` turns the names and tensors of the file into those of
    the network; a `KeyError` of it means that they are another network's. Raises
    `WeightFileError`, `FileNotFoundError`.
    """
    with torch.device("meta"):
        network = make()
    state = load_state_dict(path)
    try:
        changed = change(state)
    except KeyError as error:
        raise WeightFileError(
            path, f"it has no weights called {error}: those of another network"
        ) from error
    return fill(network, changed, path)
