"""How much memory an XPU has, how much of it is free, and what is given back. In bytes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import errors, host
from ..log import LOGGER
from ..replacement import Factory
from ..seam import Seam
from .devices import MODEL_MANAGEMENT, asking_about, is_xpu, kind_of

if TYPE_CHECKING:
    import torch

# What torch before 2.13 cannot tell: names under which integrated GPUs appear. Discrete Arc
# cards carry a model number (A770, B580, Pro B50) behind "Arc(TM)".
_INTEGRATED_NAME = re.compile(
    r"Iris|UHD|HD Graphics|Arc\(TM\) (Graphics|[0-9]+[TV])", re.IGNORECASE
)


# What Level Zero grants at once by default, whatever the card's memory ("stateful" addressing;
# the Arc A series cannot do otherwise):
# https://github.com/intel/compute-runtime/blob/master/programmers-guide/ALLOCATIONS_GREATER_THAN_4GB.md
LEVEL_ZERO_ALLOCATION = 4 << 30


@dataclass(frozen=True)
class Reading:
    """What can be known about a device's memory at one moment."""

    total: int
    reserved: int
    """Held by this process's caching allocator."""
    active: int
    """Of that, in use by tensors or by blocks that wait for a stream."""
    driver_free: int | None
    """What the driver says is free for everyone, or None where it cannot tell."""
    system_available: int | None
    """Memory that the machine can still give, for a GPU that shares it; else None."""


@dataclass(frozen=True)
class FreeMemory:
    """What a model may still take."""

    total: int
    """Free on the device, the allocator's cache included."""
    cached: int
    """Of that, in the allocator's cache."""
    source: str
    """Which figure decided: driver, system or allocator."""


def free_memory(reading: Reading) -> FreeMemory:
    """What is free: the least that driver, machine and allocator agree on, plus the cache.

    The host's own figure is `total - reserved` alone, which counts what other programs hold.
    """
    bounds = {"allocator": max(0, reading.total - reading.reserved)}
    if reading.driver_free is not None:
        bounds["driver"] = reading.driver_free
    if reading.system_available is not None:
        bounds["system"] = reading.system_available
    source = min(bounds, key=lambda name: bounds[name])
    cached = max(0, reading.reserved - reading.active)
    return FreeMemory(bounds[source] + cached, cached, source)


def is_plausible(free: int, total: int) -> bool:
    """Whether a driver's answer can be meant: some drivers say 0, or more than there is.

    Zero is the answer of drivers that lack the telemetry (vllm issue 49273); a card that is
    really full is seen through the allocator, which then fails.
    """
    return 0 < free <= total


class MemoryReader:
    """Reads devices, and remembers for each whether its driver can tell free memory.

    Level Zero cannot on integrated GPUs and under WSL (pytorch pull request 194487, issue
    194576): `mem_get_info` raises there, and is not asked again.
    """

    def __init__(self) -> None:
        self._silent: dict[int, str] = {}

    def silent(self, index: int) -> str | None:
        """Why the driver of device `index` is not asked for free memory, or None if it is."""
        return self._silent.get(index)

    def read(self, device: "torch.device") -> Reading:
        """The state of an XPU now. A device without index is the current one."""
        import torch

        index = torch.xpu.current_device() if device.index is None else device.index
        properties = torch.xpu.get_device_properties(index)
        # Empty before the device's first use, without the keys.
        statistics = torch.xpu.memory_stats(index)
        return Reading(
            total=properties.total_memory,
            reserved=statistics.get("reserved_bytes.all.current", 0),
            active=statistics.get("active_bytes.all.current", 0),
            driver_free=self._driver_free(index, properties.total_memory),
            system_available=_available() if is_integrated(properties) else None,
        )

    def free(self, device: "torch.device") -> FreeMemory:
        return free_memory(self.read(device))

    def _driver_free(self, index: int, total: int) -> int | None:
        if index in self._silent:
            return None
        import torch

        try:
            free = int(torch.xpu.mem_get_info(index)[0])
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            # AttributeError: torch before 2.6 has no such function.
            self._silent[index] = str(error).splitlines()[0] if str(error) else repr(error)
            return None
        return free if is_plausible(free, total) else None


def allocation_setting(text: str) -> int | None:
    """The bytes that COMFYUI_IPEX_MAX_ALLOCATION states in MiB, or None if it is empty.

    Raises `ValueError` if it is no whole number above 0.
    """
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(
            f"COMFYUI_IPEX_MAX_ALLOCATION is {text!r}: give a whole number of MiB above 0."
        )
    return int(text) << 20


def largest_allocation(properties: Any, stated: int | None) -> int:
    """The most bytes that one tensor may take on the device of these torch properties.

    `stated` is the user's own figure. Without one, 4 GiB is assumed of every device but the
    Data Center Max series, and never more than the device has.
    """
    if stated is not None:
        return stated
    if "Data Center GPU Max" in properties.name:
        return int(properties.total_memory)
    return min(LEVEL_ZERO_ALLOCATION, int(properties.total_memory))


def is_integrated(properties: Any) -> bool:
    """Whether the device of these torch properties shares the machine's memory."""
    stated = getattr(properties, "is_integrated_gpu", None)
    if stated is not None:
        return bool(stated)
    return _INTEGRATED_NAME.search(properties.name) is not None


def _available() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def get_total_memory(reader: MemoryReader) -> Factory:
    """`get_total_memory` from the back end of the device that is asked about."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(dev: Any = None, torch_total_too: bool = False) -> Any:
            device = host.primary_device() if dev is None else dev
            if not is_xpu(device):
                with asking_about(kind_of(device)):
                    return original(dev, torch_total_too)
            reading = reader.read(device)
            return (reading.total, reading.reserved) if torch_total_too else reading.total

        return replacement

    return factory


def get_free_memory(reader: MemoryReader) -> Factory:
    """`get_free_memory` that sees other programs and the machine's own memory."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(dev: Any = None, torch_free_too: bool = False) -> Any:
            device = host.primary_device() if dev is None else dev
            if not is_xpu(device):
                with asking_about(kind_of(device)):
                    return original(dev, torch_free_too)
            free = reader.free(device)
            return (free.total, free.cached) if torch_free_too else free.total

        return replacement

    return factory


def unload_all_models(original: Callable[..., Any]) -> Callable[..., Any]:
    """Unload from every device that holds a model, not only from the host's own.

    What is on a lost card cannot be brought back, and a driver that is out of memory may refuse
    the copies. The thread that runs prompts unloads between them, and must not die of it.
    """

    def replacement() -> None:
        _unless_refused(original)
        for device in host.loaded_devices():
            _unless_refused(host.free_everything_on, device)

    return replacement


def soft_empty_cache(original: Callable[..., Any]) -> Callable[..., Any]:
    """Give back the cache of every back end that is in use, not only of the host's own.

    After a card was lost, emptying its cache raises; the host calls this between prompts, in
    the thread that runs them, which must not die of it: the error of the prompt itself says
    what happened.
    """

    def replacement(force: bool = False) -> None:
        own = host.primary_device().type
        _unless_lost(original, force)
        for kind in ("cuda", "xpu"):
            if kind != own:
                _unless_lost(_empty_if_used, kind)

    return replacement


def _empty_if_used(kind: str) -> None:
    import torch

    backend = getattr(torch, kind)
    if backend.is_initialized():
        backend.empty_cache()


def _unless_refused(unload: Callable[..., Any], *arguments: Any) -> None:
    """Unload; once more after the driver refused a copy: what did move has made room by then."""
    for last in (False, True):
        try:
            unload(*arguments)
            return
        except RuntimeError as error:
            host.forget_unloaded()
            if errors.is_device_lost(error):
                _say_lost()
                return
            if not errors.is_out_of_memory(error):
                raise
            if last:
                LOGGER.error("comfyui-ipex: models stay on the card. The driver said: %s", error)


def _unless_lost(call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except RuntimeError as error:
        if not errors.is_device_lost(error):
            raise
        _say_lost()


def _say_lost() -> None:
    LOGGER.error("comfyui-ipex: memory was not given back: %s", errors.DEVICE_LOST_MESSAGE)


def memory_seams(reader: MemoryReader) -> tuple[Seam, ...]:
    return (
        Seam(
            name="total-memory",
            target=f"{MODEL_MANAGEMENT}:get_total_memory",
            replace=get_total_memory(reader),
            reason="a card that was not used yet ends what asks for its memory",
        ),
        Seam(
            name="free-memory",
            target=f"{MODEL_MANAGEMENT}:get_free_memory",
            replace=get_free_memory(reader),
            reason="memory that other programs hold counts as free, and loading a model then dies",
        ),
        Seam(
            name="unload-all",
            target=f"{MODEL_MANAGEMENT}:unload_all_models",
            replace=unload_all_models,
            reason="models stay on a second card; after a lost one the server's worker ends",
        ),
        Seam(
            name="empty-cache",
            target=f"{MODEL_MANAGEMENT}:soft_empty_cache",
            replace=soft_empty_cache,
            reason="memory stays with another maker's card; a lost card ends the server's worker",
        ),
    )
