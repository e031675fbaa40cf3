"""Tensors for suites."""

from typing import TYPE_CHECKING

from ..case import CaseSettings
from ..peaks import torch_dtype

if TYPE_CHECKING:
    import torch


def normal(settings: CaseSettings, *shape: int, seed: int = 1) -> "torch.Tensor":
    """N(0, 1) in the settings' number format on its device, the same everywhere: drawn on the CPU
    where that is quick, repeated where it is not.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    drawn = torch.randn(min(count, 1 << 22), generator=generator)
    moved = drawn.to(settings.device, number(settings))
    return moved.repeat(-(-count // drawn.numel()))[:count].view(shape)


def number(settings: CaseSettings) -> "torch.dtype":
    """torch's number format of a case; fp32 where a case has none."""
    return torch_dtype("fp32" if settings.dtype == "-" else settings.dtype)
