"""Discovery, naming and priority of devices: forced > CUDA > XPU > CPU.

The decisions are pure functions over device names; only `discover` asks torch, so the
launcher can use this module before torch is installed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

AUTO = "auto"
CPU = "cpu"

_NAME = re.compile(r"auto|cpu|(?:cuda|xpu)(?::(?:0|[1-9][0-9]{0,2}))?")


@dataclass(frozen=True)
class Device:
    """A device that torch can use now."""

    name: str
    """What `torch.device` takes: "cpu", "cuda:0", "xpu:1"."""
    label: str
    """The maker's name of the card, for people."""


class DeviceAbsentError(RuntimeError):
    """The device that was asked for is not on this machine."""


def is_device_name(text: object) -> bool:
    """True for auto, cpu, cuda, xpu, and cuda:N or xpu:N with N up to 999."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def find(request: str, available: Iterable[str]) -> str | None:
    """The first of `available` that `request` names, or None. "xpu" names any xpu:N.

    Raises `ValueError` if `request` is "auto" or no device name at all.
    """
    if request == AUTO or not is_device_name(request):
        raise ValueError(f"{request!r} names no device. Use cpu, cuda[:n] or xpu[:n].")
    if request == CPU:
        return CPU
    for name in available:
        if name == request or (":" not in request and name.partition(":")[0] == request):
            return name
    return None


def choose(request: str, available: Sequence[str]) -> str:
    """The device to use: `request` if it is not "auto", else CUDA, then XPU, then the CPU.

    Raises `ValueError` if `request` is no device name, `DeviceAbsentError` if what it
    names is not among `available`: a forced device never falls back silently.
    """
    if request != AUTO:
        found = find(request, available)
        if found is None:
            raise DeviceAbsentError(absent_message(request, available))
        return found
    for kind in ("cuda", "xpu"):
        found = find(kind, available)
        if found is not None:
            return found
    return CPU


def absent_message(request: str, available: Sequence[str]) -> str:
    """What is wrong, why and what to do when `request` is not on this machine."""
    there = ", ".join(available) or "none"
    return (
        f"The device {request!r} was asked for, but torch does not offer it here "
        f"(devices: {there}). Choose one of these or 'auto', or check that the card's driver "
        f"is installed and that this torch was built for {request.partition(':')[0]}."
    )


def discover() -> tuple[Device, ...]:
    """The devices that torch offers in this process: every CUDA card, every XPU, the CPU."""
    import torch

    found: list[Device] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found.append(Device(f"cuda:{index}", torch.cuda.get_device_name(index)))
    # torch before 2.4 has no torch.xpu.
    xpu = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available():
        for index in range(xpu.device_count()):
            found.append(Device(f"xpu:{index}", xpu.get_device_name(index)))
    found.append(Device(CPU, "CPU"))
    return tuple(found)


def combo() -> list[str]:
    """The choices of a "device" widget: "auto", then every device of this process."""
    return [AUTO, *(device.name for device in discover())]
