"""What a call may take on a device, and who makes room for it. Figures are in bytes.

This is the only module of nodes and inference that has the host unload models.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..xpu_runtime import devices, host
from ..xpu_runtime.seams import memory
from ..xpu_runtime.settings import read
from .dry_run import Cost

if TYPE_CHECKING:
    from ..xpu_runtime.host.types import ModelPatcher

FREE_SHARE = 0.9
"""Of the free memory: the rest is for the libraries' workspaces and for what fragments."""


class DoesNotFitError(RuntimeError):
    """A plan found no way to run within the memory that there is."""


@dataclass(frozen=True)
class Limits:
    free: int
    """On the device, for everything but the weights."""
    largest: int | None
    """The most that one tensor may take, or None where nothing limits it."""
    small: bool = False
    """Prefer small calls: on the CPU."""

    def fit(self, cost: Cost) -> bool:
        return cost.peak <= self.free and (self.largest is None or cost.largest <= self.largest)


def largest_tensor(device: torch.device) -> int | None:
    """The most bytes that one tensor may take on `device`; None where nothing limits it."""
    if device.type != "xpu":
        return None
    stated = memory.allocation_setting(read("COMFYUI_IPEX_MAX_ALLOCATION"))
    return memory.largest_allocation(torch.xpu.get_device_properties(device), stated)


class Budget:
    """The memory of one device, beside one network that is to stay loaded there."""

    def __init__(self, device: torch.device, patcher: "ModelPatcher | None" = None) -> None:
        self.device = device
        self._patcher = patcher

    def limits(self) -> Limits:
        """What a call may take now, beside what is loaded."""
        free = int(host.free_memory(self.device) * FREE_SHARE)
        return Limits(free, largest_tensor(self.device), self.device.type == devices.CPU)

    def unlimited(self) -> Limits:
        """What a call may take if memory were free without end."""
        return Limits(1 << 62, largest_tensor(self.device), self.device.type == devices.CPU)

    def make_room(self, needed: int) -> None:
        """Have the host unload other models until a call of this peak fits, or none is left."""
        if self.device.type == devices.CPU or self.limits().free >= needed:
            return
        host.evict(self.device, int(needed / FREE_SHARE), keep=self._patcher)

    def clear(self) -> None:
        """Have the host unload every model of the device, then load the network again."""
        host.free_everything_on(self.device)
        if self._patcher is not None:
            host.load_whole(self._patcher, 0)

    def release(self) -> None:
        if self._patcher is not None:
            host.unload(self._patcher)

    def empty_caches(self) -> None:
        host.empty_caches()
