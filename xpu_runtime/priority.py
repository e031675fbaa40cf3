"""The device that the host is to run on: forced > CUDA > XPU > CPU. Standard library only."""

from collections.abc import Sequence
from dataclasses import dataclass

from .devices import AUTO, CPU, Device, choose, is_device_name
from .host import HostArguments

SETTING = "COMFYUI_IPEX_DEVICE"


@dataclass(frozen=True)
class Forced:
    """A device that somebody asked for."""

    request: str
    """A device name, never "auto"."""
    source: str
    """Where it was asked for, for people: "COMFYUI_IPEX_DEVICE=xpu:1"."""


@dataclass(frozen=True)
class Primary:
    """The device that the host is to run on."""

    kind: str
    """ "cuda", "xpu" or "cpu"."""
    index: int | None
    """The card, or None where torch's current one is the right one."""
    forced: Forced | None


class DeviceConflictError(RuntimeError):
    """Two settings ask for different devices."""


def forced(setting: str, arguments: HostArguments) -> Forced | None:
    """What the user forces, or None for the priority's choice.

    `setting` is the value of COMFYUI_IPEX_DEVICE. Needs no torch, so that it can be asked before
    torch is imported. Raises `ValueError` if `setting` is no device name, `DeviceConflictError`
    if two sources ask for devices of different kinds.
    """
    if not is_device_name(setting):
        raise ValueError(
            f"{SETTING} is {setting!r}, which is no device. "
            "Use auto, cpu, cuda[:n], xpu[:n] or xpu@uuid."
        )
    asked = [Forced(setting, f"{SETTING}={setting}")] if setting != AUTO else []
    if arguments.force_intel_xpu:
        asked.append(Forced("xpu", "--force-intel-xpu"))
    if arguments.cpu:
        asked.append(Forced(CPU, "--cpu"))
    if arguments.directml:
        asked.append(Forced("directml", "--directml"))
    if len({kind_of(one.request) for one in asked}) > 1:
        raise DeviceConflictError(
            f"{' and '.join(one.source for one in asked)} ask for different devices. Keep one of "
            "them: which one is meant cannot be guessed."
        )
    return asked[0] if asked else None


def primary(
    demand: Forced | None, default_device: int | None, available: Sequence[Device]
) -> Primary:
    """The device to run on.

    `default_device` is the N of --default-device N, which means an XPU where the choice falls
    on XPUs without a number; for CUDA the host has renumbered the cards by it already.
    Raises `DeviceAbsentError` if what was asked for is not among `available`.
    """
    request = AUTO if demand is None else demand.request
    if request == "directml":
        return Primary(request, None, demand)
    kind = kind_of(choose(request, available))
    numbered = request != AUTO and request != kind
    if not numbered and kind == "xpu" and default_device is not None:
        request, numbered = f"xpu:{default_device}", True
    index = int(choose(request, available).partition(":")[2]) if numbered else None
    return Primary(kind, index, demand)


def kind_of(request: str) -> str:
    """The kind of device that a device name means: "xpu" of "xpu:1" and "xpu@uuid"."""
    return request.partition("@")[0].partition(":")[0]
