"""The limits of attention on an XPU."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..attention_plan import score_limit
from ..memory import MemoryReader, largest_allocation

if TYPE_CHECKING:
    import torch


def attention_limit(reader: MemoryReader, stated: int | None) -> "Callable[[torch.device], int]":
    """How many bytes one matrix of attention scores may take on a device now.

    `stated` is the user's own figure for the largest allocation, in bytes.
    """

    def limit_for(device: "torch.device") -> int:
        import torch

        properties = torch.xpu.get_device_properties(device)
        granted = largest_allocation(properties, stated)
        return score_limit(granted, reader.free(device).total)

    return limit_for
