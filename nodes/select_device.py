"""Select Device: where a component runs."""

from typing import Any

from ..xpu_runtime import devices, placement

DEVICE_TOOLTIP = (
    "Where to run. 'auto' leaves the choice to ComfyUI. A workflow that names a device which "
    "this machine does not have runs on 'auto', and the log says so."
)


class TakesDevice:
    """What every node with a device widget shares: that absent devices are accepted."""

    @classmethod
    def VALIDATE_INPUTS(cls, device: str) -> bool | str:  # noqa: N802 (the host's name)
        """Accept devices that are absent here, so that workflows travel between machines."""
        if devices.is_device_name(device):
            return True
        return f"{device!r} is no device. Use auto, cpu, cuda:0, xpu:0 and so on."


class _SelectDevice(TakesDevice):
    """What every Select Device node shares."""

    CATEGORY = "IPEX"
    FUNCTION = "select"
    SEARCH_ALIASES = ["device", "gpu", "xpu", "intel arc", "cuda", "cpu"]


def device_widget() -> tuple[list[str], dict[str, Any]]:
    """The device list is that of the running process."""
    return (devices.combo(), {"default": devices.AUTO, "tooltip": DEVICE_TOOLTIP})


class IpexSelectDevice(_SelectDevice):
    """A MODEL, placed on a chosen device."""

    DESCRIPTION = (
        "Runs a diffusion model on a device of your choice: the CPU, an NVIDIA card or an Intel "
        "GPU. The input model is not changed, so other branches of the workflow keep theirs."
    )
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The same model, set to run on the chosen device.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        """The widgets."""
        model = ("MODEL", {"tooltip": "The diffusion model to place."})
        return {"required": {"model": model, "device": device_widget()}}

    def select(self, model: Any, device: str) -> tuple[Any]:
        """Return a clone of `model` (a ModelPatcher) whose load device is `device`."""
        return (placement.place_model(model, device),)


class IpexSelectDeviceControlNet(_SelectDevice):
    """A CONTROL_NET, placed on a chosen device."""

    DESCRIPTION = (
        "Runs a ControlNet on a device of your choice. It must be the device of the model that "
        "it steers. The input ControlNet is not changed."
    )
    RETURN_TYPES = ("CONTROL_NET",)
    OUTPUT_TOOLTIPS = ("The same ControlNet, set to run on the chosen device.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        """The widgets."""
        control_net = ("CONTROL_NET", {"tooltip": "The ControlNet to place."})
        return {"required": {"control_net": control_net, "device": device_widget()}}

    def select(self, control_net: Any, device: str) -> tuple[Any]:
        """Return a copy of `control_net` whose network loads on `device`."""
        return (placement.place_controlnet(control_net, device),)
