"""Select Device for upscale models."""

from typing import Any

from ...xpu_runtime import devices, host
from ...xpu_runtime.placement import Placed, There, choose, choose_offload
from ..select_device import SelectsDevice, shown

_NAME = "the upscale model"


class IpexSelectDeviceUpscaler(SelectsDevice):
    """An UPSCALE_MODEL, placed on a chosen device."""

    DESCRIPTION = (
        "Runs an upscale model of any loader on a device of your choice. The input model is not "
        "changed: the placed one has weights of its own."
    )
    COMPONENT = ("upscale_model", "The upscale model to place.")
    RETURN_TYPES = ("UPSCALE_MODEL",)
    OUTPUT_TOOLTIPS = ("The same model, set to run on the chosen device.",)

    def select(
        self, upscale_model: Any, device: str, offload_device: str = devices.AUTO
    ) -> dict[str, Any]:
        """A descriptor of the same model whose network loads on `device`."""
        from . import elsewhere, upscaler

        chosen = choose(device, _NAME, host.primary_device)
        location = chosen.location
        kept = choose_offload(offload_device, _NAME, location)
        if isinstance(location, There):
            result = elsewhere.placed(upscale_model, location, kept.device)
        else:
            own = elsewhere.own(upscale_model)
            result = upscaler.placed(own, location.device, kept.device)
        return shown(Placed(result, location, tuple(filter(None, (chosen.warning, kept.warning)))))
