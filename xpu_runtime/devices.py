"""Discovery, naming and priority of devices: forced > CUDA > XPU > CPU.

The decisions are pure functions over devices as data; only `discover` asks torch, so the
launcher can use this module before torch is installed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

AUTO = "auto"
CPU = "cpu"

_NAME = re.compile(r"auto|cpu|(?:cuda|xpu)(?::(?:0|[1-9][0-9]{0,2})|@[0-9A-Za-z:.-]{4,64})?")


@dataclass(frozen=True)
class Device:
    """A device that torch can use now."""

    name: str
    """What `torch.device` takes: "cpu", "cuda:0", "xpu:1"."""
    label: str
    """The maker's name of the card, for people."""
    identity: str | None = None
    """The card's uuid, which it keeps when cards are added or counted in another order."""

    @property
    def kind(self) -> str:
        """ "cuda", "xpu" or "cpu"."""
        return self.name.partition(":")[0]

    @property
    def stable_name(self) -> str:
        """A name for settings and files that outlives this process: "xpu@8680a056-...".

        Where torch gives no identity, the number has to do.
        """
        return self.name if self.identity is None else f"{self.kind}@{self.identity}"


class DeviceAbsentError(RuntimeError):
    """The device that was asked for is not on this machine."""


def is_device_name(text: object) -> bool:
    """True for auto, cpu, cuda, xpu, xpu:N with N up to 999, xpu@UUID; for cuda likewise."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def find(request: str, available: Iterable[Device]) -> str | None:
    """The name of the first of `available` that `request` means, or None. "xpu" is any xpu:N.

    Raises `ValueError` if `request` is "auto" or no device name at all.
    """
    if request == AUTO or not is_device_name(request):
        raise ValueError(f"{request!r} names no device. Use cpu, cuda[:n], xpu[:n] or xpu@uuid.")
    if request == CPU:
        return CPU
    for device in available:
        if request in (device.name, device.kind, device.stable_name):
            return device.name
    return None


def choose(request: str, available: Sequence[Device]) -> str:
    """The name of the device to use: `request` unless that is "auto", else CUDA > XPU > CPU.

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


def absent_message(request: str, available: Sequence[Device]) -> str:
    """What is wrong, why and what to do when `request` is not on this machine."""
    there = ", ".join(device.name for device in available) or "none"
    return (
        f"The device {request!r} was asked for, but torch does not offer it here "
        f"(devices: {there}). Choose one of these or 'auto', or check that the card's driver "
        f"is installed and that this torch was built for {re.split('[:@]', request)[0]}."
    )


def discover() -> tuple[Device, ...]:
    """The devices that torch offers in this process: every CUDA card, every XPU, the CPU."""
    import torch

    found: list[Device] = []
    if torch.cuda.is_available():
        found += _cards("cuda", torch.cuda)
    # torch before 2.4 has no torch.xpu.
    xpu = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available():
        found += _cards("xpu", xpu)
    found.append(Device(CPU, "CPU"))
    return tuple(found)


def _cards(kind: str, backend: Any) -> list[Device]:
    cards = []
    for index in range(backend.device_count()):
        properties = backend.get_device_properties(index)
        # torch before 2.6 gives no uuid.
        uuid = getattr(properties, "uuid", None)
        identity = None if uuid is None else str(uuid)
        cards.append(Device(f"{kind}:{index}", properties.name, identity))
    return cards


def combo() -> list[str]:
    """The choices of a "device" widget: "auto", then every device of this process."""
    return [AUTO, *(device.name for device in discover())]
