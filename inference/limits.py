"""What a call may take on a device now, beside what is loaded there. Figures are in bytes."""

from dataclasses import dataclass

import torch

from ..xpu_runtime import devices, host
from ..xpu_runtime.seams import memory
from ..xpu_runtime.settings import read
from .dry_run import Cost

FREE_SHARE = 0.9
"""Of the free memory: the rest is for the libraries' workspaces and for what fragments."""


@dataclass(frozen=True)
class Limits:
    """What a run may take, in bytes."""

    free: int
    """On the device, for everything but the weights."""
    largest: int | None
    """The most that one tensor may take, or None where nothing limits it."""
    small: bool = False
    """Prefer small calls: on the CPU."""

    def fit(self, cost: Cost) -> bool:
        """Whether a call of this cost may run."""
        return cost.peak <= self.free and (self.largest is None or cost.largest <= self.largest)


def limits_of(device: torch.device) -> Limits:
    """What a run may take on `device` now, beside what is loaded there."""
    free = int(host.free_memory(device) * FREE_SHARE)
    return Limits(free, largest_tensor(device), device.type == devices.CPU)


def largest_tensor(device: torch.device) -> int | None:
    """The most bytes that one tensor may take on `device`; None where nothing limits it."""
    if device.type != "xpu":
        return None
    stated = memory.allocation_setting(read("COMFYUI_IPEX_MAX_ALLOCATION"))
    return memory.largest_allocation(torch.xpu.get_device_properties(device), stated)
