"""Tensors for suites."""

from typing import TYPE_CHECKING

from ..case import Place
from ..peaks import torch_dtype

if TYPE_CHECKING:
    import torch


def normal(place: Place, *shape: int, seed: int = 1) -> "torch.Tensor":
    """N(0, 1) in the place's number format on its device, the same everywhere: drawn on the CPU
    where that is quick, repeated where it is not.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    drawn = torch.randn(min(count, 1 << 22), generator=generator)
    moved = drawn.to(place.device, number(place))
    return moved.repeat(-(-count // drawn.numel()))[:count].view(shape)


def number(place: Place) -> "torch.dtype":
    """torch's number format of a place; fp32 where a case has none."""
    return torch_dtype("fp32" if place.dtype == "-" else place.dtype)
