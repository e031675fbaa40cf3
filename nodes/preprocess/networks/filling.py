"""Weights into networks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ....inference.weight_files import WeightFileError

if TYPE_CHECKING:
    from torch import Tensor, nn


def unfilled(make: "Callable[[], nn.Module]") -> "nn.Module":
    """The network that `make` makes, on the meta device: numbers that are replaced cost seconds.

    On the CPU where that cannot be: older versions of timm read numbers while they make one.
    """
    import torch

    try:
        with torch.device("meta"):
            return make()
    except (RuntimeError, NotImplementedError):
        return make()


def fill(network: "nn.Module", state: "Mapping[str, Tensor]", path: Path) -> "nn.Module":
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
