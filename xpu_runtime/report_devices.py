"""What each device of this process can do, and how much memory it has. Sizes are in bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import host
from .devices import CPU, Device
from .priority import Primary
from .readable import Unreadable, readable
from .seams.memory import (
    LEVEL_ZERO_ALLOCATION,
    FreeMemory,
    MemoryReader,
    Reading,
    free_memory,
    is_integrated,
    largest_allocation,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PrimaryDevice:
    chosen: str
    """The choice of this extension: a device name, or "xpu" for the current card."""
    because: str
    answered: str | Unreadable
    """What the host answers when it is asked."""


@dataclass(frozen=True)
class Capabilities:
    """What a device can do; None where it cannot be told."""

    fp16: bool
    """ComfyUI computes in it there; likewise bf16."""
    bf16: bool
    fp64: bool | None
    fp8_storage: bool
    """ComfyUI keeps fp8 weights there as they are."""
    integrated: bool | None
    """It shares the machine's memory."""
    units: str
    """Its size, in its maker's unit: "512 EUs"."""
    driver_bf16: bool | None
    """The driver states bf16 conversions; some drivers hide them (pytorch issue 196074)."""


@dataclass(frozen=True)
class Allocation:
    """The most that one tensor may take."""

    largest: int
    source: str


@dataclass(frozen=True)
class Memory:
    reading: Reading
    free: FreeMemory
    driver_silent: str | None
    """Why the driver tells nothing or is not asked; None where there is none, or it tells."""
    allocation: Allocation | None
    """None where nothing is known to limit a tensor but the memory."""


@dataclass(frozen=True)
class DeviceReport:
    name: str
    stable_name: str
    label: str
    driver: str | Unreadable
    """Version and back end as torch has them; empty where torch tells none."""
    capabilities: Capabilities | Unreadable
    memory: Memory | Unreadable


def primary_device(chosen: Primary, arguments: host.HostArguments) -> PrimaryDevice:
    name = chosen.kind if chosen.index is None else f"{chosen.kind}:{chosen.index}"
    answered = readable(lambda: str(host.primary_device()))
    return PrimaryDevice(name, because(chosen, arguments), answered)


def because(chosen: Primary, arguments: host.HostArguments) -> str:
    """Why this device: who forced it, or the priority."""
    reasons = [
        f"forced by {chosen.forced.source}" if chosen.forced else "by the priority CUDA > XPU > CPU"
    ]
    if arguments.default_device is not None and chosen.index == arguments.default_device:
        reasons.append(f"--default-device {chosen.index}")
    return ", ".join(reasons)


def device_reports(
    found: Sequence[Device], reader: MemoryReader, stated: int | None
) -> tuple[DeviceReport, ...]:
    """Every device of `found`. `stated` is the user's own figure for the largest allocation."""
    used = readable(lambda: str(host.primary_device()))
    return tuple(_device_report(device, reader, stated, device.name == used) for device in found)


def _device_report(
    device: Device, reader: MemoryReader, stated: int | None, is_primary: bool
) -> DeviceReport:
    import torch

    place = torch.device(device.name)
    readers = {"xpu": lambda: xpu_memory(place, reader, stated), CPU: cpu_memory}
    memory = readers.get(device.kind, lambda: cuda_memory(place, is_primary))
    return DeviceReport(
        name=device.name,
        stable_name=device.stable_name,
        label=device.label,
        driver=readable(lambda: _driver(place)),
        capabilities=readable(lambda: _capabilities(place)),
        memory=readable(memory),
    )


def _properties(device: "torch.device") -> Any:
    """torch's properties of a card; None for the CPU."""
    import torch

    return None if device.type == CPU else getattr(torch, device.type).get_device_properties(device)


def _driver(device: "torch.device") -> str:
    properties = _properties(device)
    version = getattr(properties, "driver_version", "")
    return f"{version}, {properties.platform_name}" if version else ""


def _capabilities(device: "torch.device") -> Capabilities:
    properties = _properties(device)
    xpu = device.type == "xpu"
    fp16, bf16 = host.computes_in_16_bits(device)
    units = {
        "xpu": lambda: f"{properties.gpu_eu_count} EUs",
        "cuda": lambda: f"{properties.multi_processor_count} SMs",
    }
    return Capabilities(
        fp16=fp16,
        bf16=bf16,
        # Every CPU and every NVIDIA card that torch runs on has it.
        fp64=bool(properties.has_fp64) if xpu else True,
        fp8_storage=host.stores_fp8(device),
        integrated=_integrated(device, properties),
        units=units.get(device.type, lambda: "")(),
        # torch before 2.6 does not tell.
        driver_bf16=getattr(properties, "has_bfloat16_conversions", None),
    )


def _integrated(device: "torch.device", properties: Any) -> bool | None:
    if device.type == "xpu":
        return is_integrated(properties)
    stated = getattr(properties, "is_integrated", None)
    return None if stated is None else bool(stated)


def xpu_memory(device: "torch.device", reader: MemoryReader, stated: int | None) -> Memory:
    """An XPU's memory.

    A card that was not used yet is asked too: its driver answers from telemetry, and nothing is
    set up on the card for it.
    """
    reading = reader.read(device)
    silent = reader.silent(device.index or 0)
    if reading.driver_free is None and silent is None:
        silent = "its answer cannot be meant, so it is left out"
    allocation = allocation_of(_properties(device), stated)
    return Memory(reading, free_memory(reading), silent, allocation)


def allocation_of(properties: Any, stated: int | None) -> Allocation:
    """The most that one tensor may take on an XPU of these properties, and who says so."""
    largest = largest_allocation(properties, stated)
    if stated is not None:
        return Allocation(largest, "COMFYUI_IPEX_MAX_ALLOCATION")
    if largest == LEVEL_ZERO_ALLOCATION:
        return Allocation(largest, "what Level Zero grants by default, assumed")
    return Allocation(largest, "all of its memory, assumed")


def cuda_memory(device: "torch.device", is_primary: bool) -> Memory:
    """An NVIDIA card's memory.

    The driver is asked only about a card that this process uses: for another one that would
    set up a context, which takes some hundred MiB of it.
    """
    import torch

    total = int(torch.cuda.get_device_properties(device).total_memory)
    statistics = torch.cuda.memory_stats(device) if torch.cuda.is_initialized() else {}
    reserved = statistics.get("reserved_bytes.all.current", 0)
    active = statistics.get("active_bytes.all.current", 0)
    driver: int | None = None
    silent: str | None = "this process has not used the card, and asking would take memory of it"
    if reserved or is_primary:
        driver, silent = int(torch.cuda.mem_get_info(device)[0]), None
    reading = Reading(total, reserved, active, driver, None)
    return Memory(reading, free_memory(reading), silent, None)


def cpu_memory() -> Memory:
    """The machine's memory, and what of it this process holds."""
    import psutil

    machine = psutil.virtual_memory()
    held = int(psutil.Process().memory_info().rss)
    reading = Reading(int(machine.total), held, held, None, int(machine.available))
    return Memory(reading, free_memory(reading), None, None)
