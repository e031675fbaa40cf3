"""Select Device: where a component runs."""

from typing import TYPE_CHECKING, Any, ClassVar

from ..xpu_runtime import devices, placement
from ..xpu_runtime.placement import WITH_MODEL, Placed

if TYPE_CHECKING:
    from ..xpu_runtime.host.types import CLIP, VAE, ControlBase, ModelPatcher

DEVICE_TOOLTIP = (
    "Where to run. 'auto' leaves the choice to ComfyUI. A workflow that names a device which "
    "this machine does not have runs on 'auto', and the log says so."
)

OFFLOAD_TOOLTIP = (
    "Where the weights are kept while they are not needed. 'auto' leaves the choice to ComfyUI: "
    "the computer's memory. Weights on another card cannot be evicted from there."
)


class TakesDevice:
    """What every node with a device widget shares: that absent devices are accepted."""

    @classmethod
    def VALIDATE_INPUTS(cls, device: str) -> bool | str:  # noqa: N802 (the host's name)
        """Accept devices that are absent here, so that workflows travel between machines."""
        return _check_names(device)


def _check_names(*requests: str) -> bool | str:
    for device in requests:
        if not devices.is_device_name(device):
            return f"{device!r} is no device. Use auto, cpu, cuda:0, xpu:0 and so on."
    return True


def device_widget() -> tuple[list[str], dict[str, Any]]:
    """The device list is that of the running process."""
    return (placement.device_menu(), {"default": devices.AUTO, "tooltip": DEVICE_TOOLTIP})


def offload_widget() -> tuple[list[str], dict[str, Any]]:
    return (placement.device_menu(), {"default": devices.AUTO, "tooltip": OFFLOAD_TOOLTIP})


def shown(placed: Placed) -> dict[str, Any]:
    return {"ui": {"text": [placed.text]}, "result": (placed.result,)}


class SelectsDevice:
    """What every Select Device node shares."""

    CATEGORY = "IPEX"
    FUNCTION = "select"
    SEARCH_ALIASES = ["device", "gpu", "xpu", "intel arc", "cuda", "cpu"]

    COMPONENT: ClassVar[tuple[str, str]]
    """The name and the tooltip of the input that is placed, which is of the type returned."""
    RETURN_TYPES: ClassVar[tuple[str]]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        name, tooltip = cls.COMPONENT
        component = (cls.RETURN_TYPES[0], {"tooltip": tooltip})
        return {
            "required": {name: component, "device": device_widget()},
            "optional": {"offload_device": offload_widget()},
        }

    @classmethod
    def VALIDATE_INPUTS(  # noqa: N802 (the host's name)
        cls, device: str, offload_device: str = devices.AUTO
    ) -> bool | str:
        """Accept devices that are absent here, so that workflows travel between machines."""
        return _check_names(device, offload_device)


class IpexSelectDevice(SelectsDevice):
    DESCRIPTION = (
        "Runs a diffusion model on a device of your choice: the CPU, an NVIDIA card or an Intel "
        "GPU. The input model is not changed, so other branches of the workflow keep theirs."
    )
    COMPONENT = ("model", "The diffusion model to place.")
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The same model, set to run on the chosen device.",)

    def select(
        self, model: "ModelPatcher", device: str, offload_device: str = devices.AUTO
    ) -> dict[str, Any]:
        return shown(placement.place_model(model, device, offload_device))


class IpexSelectDeviceCLIP(SelectsDevice):
    DESCRIPTION = (
        "Runs a text encoder on a device of your choice. The conditioning that it makes can be "
        "used with models on any device. The input text encoder is not changed."
    )
    COMPONENT = ("clip", "The text encoder to place.")
    RETURN_TYPES = ("CLIP",)
    OUTPUT_TOOLTIPS = ("The same text encoder, set to run on the chosen device.",)

    def select(
        self, clip: "CLIP", device: str, offload_device: str = devices.AUTO
    ) -> dict[str, Any]:
        return shown(placement.place_clip(clip, device, offload_device))


class IpexSelectDeviceVAE(SelectsDevice):
    DESCRIPTION = (
        "Runs a VAE on a device of your choice, in the data type that ComfyUI would use there. "
        "Latents may come from any device. The input VAE is not changed."
    )
    COMPONENT = ("vae", "The VAE to place.")
    RETURN_TYPES = ("VAE",)
    OUTPUT_TOOLTIPS = ("The same VAE, set to run on the chosen device.",)

    def select(self, vae: "VAE", device: str, offload_device: str = devices.AUTO) -> dict[str, Any]:
        return shown(placement.place_vae(vae, device, offload_device))


class IpexSelectDeviceControlNet(SelectsDevice):
    DESCRIPTION = (
        "Runs a ControlNet on the device of the model that it steers, or on one of its own. The "
        "input ControlNet is not changed."
    )
    COMPONENT = ("control_net", "The ControlNet to place.")
    RETURN_TYPES = ("CONTROL_NET",)
    OUTPUT_TOOLTIPS = ("The same ControlNet, set to run on the chosen device.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        inputs = super().INPUT_TYPES()
        names, options = inputs["required"]["device"]
        tooltip = (
            f"{DEVICE_TOOLTIP} '{WITH_MODEL}' is the device of the connected model. On another "
            "device than the model's, hints and results are copied in every step."
        )
        followed = ([names[0], WITH_MODEL, *names[1:]], {**options, "tooltip": tooltip})
        model = ("MODEL", {"tooltip": f"For '{WITH_MODEL}': the model, after its Select Device."})
        return {
            "required": {**inputs["required"], "device": followed},
            "optional": {"model": model, **inputs["optional"]},
        }

    @classmethod
    def VALIDATE_INPUTS(  # noqa: N802 (the host's name)
        cls, device: str, offload_device: str = devices.AUTO
    ) -> bool | str:
        """As for every component, and also the model's device."""
        own = devices.AUTO if device == WITH_MODEL else device
        return _check_names(own, offload_device)

    def select(
        self,
        control_net: "ControlBase",
        device: str,
        model: "ModelPatcher | None" = None,
        offload_device: str = devices.AUTO,
    ) -> dict[str, Any]:
        return shown(placement.place_controlnet(control_net, device, offload_device, model))
