"""Which device the server runs on, and which of ComfyUI's arguments say so."""

from dataclasses import dataclass

from ..xpu_runtime.devices import AUTO, Device, DeviceAbsentError, choose
from .environment import TorchProbe
from .errors import SetupError
from .hardware import Hardware


@dataclass(frozen=True)
class Decision:
    """The device to start on."""

    device: str
    reason: str
    """Why this device, for the line that the user sees."""
    arguments: tuple[str, ...]
    """ComfyUI's own arguments that select it."""
    setting: str
    """COMFYUI_IPEX_DEVICE for the host."""


def decide(request: str, hardware: Hardware, probe: TorchProbe) -> Decision:
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
        raise SetupError(str(error), remedy=_why_no_gpu(hardware, probe)) from error
    if request != AUTO:
        reason = "as you asked"
    elif device == "cpu":
        reason = _why_no_gpu(hardware, probe)
    else:
        reason = f"the first of {', '.join(probe.devices)} by priority"
    return Decision(device, reason, _host_arguments(device), _setting(request))


def _why_no_gpu(hardware: Hardware, probe: TorchProbe) -> str:
    """Why torch offers no GPU, and the remedy where there is one."""
    if hardware.nvidia and not probe.cuda:
        return (
            f"NVIDIA's driver is loaded, but torch {probe.torch} cannot use it: "
            "update the driver (torch built for CUDA 13 needs 580 or newer)"
        )
    if hardware.intel and not probe.xpu:
        if "+xpu" not in probe.torch:
            return (
                f"there is an Intel GPU, but torch {probe.torch} was not built for XPU: remove "
                ".venv and start again where PyTorch's xpu index can be reached"
            )
        return (
            "there is an Intel GPU, but torch cannot use it: install Intel's compute runtime "
            "(intel-opencl-icd, libze1, libze-intel-gpu1) and join the group 'render'"
        )
    return "no NVIDIA driver and no Intel render node was found"


def _host_arguments(device: str) -> tuple[str, ...]:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return ("--cpu",)
    # With it the host sees this card alone.
    return ("--cuda-device", index) if kind == "cuda" and index != "0" else ()


def _setting(request: str) -> str:
    """What the host itself must be told: --cuda-device has renumbered NVIDIA's cards by then."""
    kind = request.partition(":")[0]
    return kind if kind == "cuda" else request
