"""Which device the server runs on, and which of ComfyUI's arguments say so."""

from collections.abc import Collection
from dataclasses import dataclass

from ..xpu_runtime.devices import AUTO, Device, DeviceAbsentError, choose
from ..xpu_runtime.hardware import Hardware
from ..xpu_runtime.no_gpu import Situation, hides_nvidia, why
from .environment import TorchProbe
from .errors import SetupError

# The launcher's environment is not the user's to run pip in.
REINSTALL = {
    "cuda": "remove .venv and start again",
    "xpu": "remove .venv and start again where PyTorch's xpu index can be reached",
}


@dataclass(frozen=True)
class DeviceDecision:
    device: str
    reason: str
    """Why this device, for the line that the user sees."""
    arguments: tuple[str, ...]
    """ComfyUI's own arguments that select it."""
    setting: str
    """COMFYUI_IPEX_DEVICE for the host."""


def decide(request: str, hardware: Hardware, probe: TorchProbe) -> DeviceDecision:
    """Forced > CUDA > XPU > CPU.

    Raises `SetupError` if `request` is no device name, or names one that is not here.
    """
    try:
        # Which card has a uuid is seen by the host itself, which is handed the request.
        wanted = request.partition("@")[0]
        device = choose(wanted, [Device(name, name) for name in probe.devices])
    except ValueError as error:
        raise SetupError(
            str(error), remedy="Use auto, cpu, cuda, cuda:0, xpu, xpu:1 and so on."
        ) from error
    except DeviceAbsentError as error:
        raise SetupError(str(error), remedy=_why_absent(wanted, hardware, probe)) from error
    if request != AUTO:
        reason = "as you asked"
    elif device == "cpu":
        reason = _why_no_gpu(hardware, probe)
    else:
        reason = f"the first of {', '.join(probe.devices)} by priority"
    return DeviceDecision(device, reason, host_arguments(device), host_setting(request))


def _why_absent(request: str, hardware: Hardware, probe: TorchProbe) -> str:
    """The remedy for a device that was asked for but is not here."""
    kind = request.partition(":")[0]
    if any(name.startswith(kind) for name in probe.devices):
        return f"Choose one of: {', '.join(probe.devices)}."
    return _why_no_gpu(hardware, probe, (kind,))


def _why_no_gpu(
    hardware: Hardware, probe: TorchProbe, kinds: Collection[str] = ("cuda", "xpu")
) -> str:
    """Why torch offers no GPU of these kinds, and the remedy where there is one."""
    return why(Situation(hardware, probe.torch, hides_nvidia()), kinds, REINSTALL)


def host_arguments(device: str) -> tuple[str, ...]:
    """ComfyUI's own arguments that have it run on `device`, such as "cuda:1"."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return ("--cpu",)
    # With it the host sees this card alone.
    return ("--cuda-device", index) if kind == "cuda" and index not in ("", "0") else ()


def host_setting(request: str) -> str:
    """COMFYUI_IPEX_DEVICE for the host: --cuda-device has renumbered NVIDIA's cards by then."""
    kind = request.partition(":")[0]
    return kind if kind == "cuda" else request
