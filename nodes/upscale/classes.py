"""The upscale nodes: V1 classes over `upscaling` and `loading`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...inference import precision
from ...inference.cache import identity_of
from ...xpu_runtime import devices, host, placement
from ..select_device import SelectsDevice, TakesDevice, device_widget, shown
from . import loading
from .tiles import METHODS, ResultSize

if TYPE_CHECKING:
    from torch import Tensor

    from ...xpu_runtime.host.types import Descriptor

_MOST_PIXELS = 1 << 15

_UPSCALE_MODEL = (
    "UPSCALE_MODEL",
    {"tooltip": "The model, from Load Upscale Model (IPEX) or any other loader."},
)


def _whole_number(most: int, tooltip: str, least: int = 0) -> tuple[str, dict[str, Any]]:
    """A widget whose least value is its default."""
    return ("INT", {"default": least, "min": least, "max": most, "step": 1, "tooltip": tooltip})


class IpexUpscaleModelLoader(TakesDevice):
    CATEGORY = "IPEX/upscale"
    FUNCTION = "load"
    DESCRIPTION = (
        "Loads an upscale, restoration or inpainting model for a device of your choice. It moves "
        "to the device when it is used, and leaves when ComfyUI needs the memory. Other upscale "
        "nodes take it too."
    )
    RETURN_TYPES = ("UPSCALE_MODEL",)
    OUTPUT_TOOLTIPS = ("The model, for this and any other pack's upscale nodes.",)
    SEARCH_ALIASES = ["upscaler", "super resolution", "esrgan", "spandrel"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        names = host.model_names(loading.FOLDER)
        return {
            "required": {
                "model_name": (
                    names,
                    {"tooltip": "A file in models/upscale_models: safetensors or checkpoint."},
                ),
                "device": device_widget(),
                "precision": (
                    precision.CHOICES,
                    {
                        "default": precision.AUTO,
                        "tooltip": "What the model computes in. 'auto' takes half precision on a "
                        "GPU if a test picture then differs from fp32 by less than 2 of 255.",
                    },
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, model_name: str, **_: Any) -> str:  # noqa: N802 (the host's name)
        """Another file under the same name is another model."""
        return str(identity_of(Path(host.model_path(loading.FOLDER, model_name))))

    def load(self, model_name: str, device: str, precision: str) -> "tuple[Descriptor]":
        """The model on the CPU, prepared for `device`. Raises `ModelFileError`."""
        from . import placing

        path = Path(host.model_path(loading.FOLDER, model_name))
        chosen = placement.choose(device, "the upscale model", host.primary_device)
        return (placing.load(path, chosen.location, precision),)


class IpexUpscaleImage:
    CATEGORY = "IPEX/upscale"
    FUNCTION = "upscale"
    DESCRIPTION = (
        "Enlarges or restores pictures with a model. It knows before it starts how much memory "
        "that takes, and cuts pictures that do not fit into tiles without seams."
    )
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The pictures, with as many channels as came in.",)
    SEARCH_ALIASES = ["upscale", "enlarge", "super resolution", "restore", "denoise"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        factor = {
            "default": 0.0,
            "min": 0.0,
            "max": 16.0,
            "step": 0.05,
            "tooltip": "Size of the result as a multiple of the picture's. 0: the model's scale.",
        }
        width = "Width of the result in pixels. 0: follows from the height, or from scale_by."
        height = "Height of the result in pixels. 0: follows from the width, or from scale_by."
        tile = "Side of a tile in pixels; the halo comes on top. 0: planned to fit the memory."
        halo = "Pixels that a tile sees around itself. -1: as far as the model looks, no seams."
        batch = "Tiles or pictures that are computed at once. 0: planned to fit the memory."
        method = {
            "default": METHODS[0],
            "tooltip": "How the model's result is brought to another size than its own.",
        }
        return {
            "required": {
                "upscale_model": _UPSCALE_MODEL,
                "image": ("IMAGE", {"tooltip": "Pictures: gray, RGB or RGBA."}),
            },
            "optional": {
                "scale_by": ("FLOAT", factor),
                "width": _whole_number(_MOST_PIXELS, width),
                "height": _whole_number(_MOST_PIXELS, height),
                "method": (METHODS, method),
                "tile": _whole_number(_MOST_PIXELS, tile),
                "halo": _whole_number(1024, halo, least=-1),
                "batch": _whole_number(256, batch),
            },
        }

    def upscale(
        self,
        upscale_model: "Descriptor",
        image: "Tensor",
        scale_by: float = 0.0,
        width: int = 0,
        height: int = 0,
        method: str = METHODS[0],
        tile: int = 0,
        halo: int = -1,
        batch: int = 0,
    ) -> "tuple[Tensor]":
        """The pictures as fp32 on the CPU, 0 to 1."""
        from . import upscaling
        from .plan import TileRequest

        size = ResultSize(scale_by, width, height, method)
        own = None if halo < 0 else halo
        return (upscaling.upscale(upscale_model, image, size, TileRequest(tile, batch), own),)


class IpexInpaintWithModel:
    CATEGORY = "IPEX/upscale"
    FUNCTION = "inpaint"
    DESCRIPTION = (
        "Fills the masked parts of pictures with a model made for that (LaMa, MAT), without a "
        "prompt: to remove things, or as a start for inpainting with a diffusion model."
    )
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The pictures. What was not masked is unchanged.",)
    SEARCH_ALIASES = ["lama", "mat", "remove object", "inpaint", "fill"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        return {
            "required": {
                "upscale_model": (
                    "UPSCALE_MODEL",
                    {"tooltip": "An inpainting model from Load Upscale Model (IPEX)."},
                ),
                "image": ("IMAGE", {"tooltip": "The pictures."}),
                "mask": ("MASK", {"tooltip": "What to fill: one mask, or one a picture."}),
            }
        }

    def inpaint(
        self, upscale_model: "Descriptor", image: "Tensor", mask: "Tensor"
    ) -> "tuple[Tensor]":
        """The pictures as fp32 on the CPU, 0 to 1."""
        from ..inpaint import inpaint

        return (inpaint(upscale_model, image, mask),)


class IpexUpscaleModelInfo:
    CATEGORY = "IPEX/upscale"
    FUNCTION = "describe"
    DESCRIPTION = (
        "Says what an upscale model is: architecture, scale, channels, how far it looks (halo), "
        "memory for a tile, and the precisions that it can compute in."
    )
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("info",)
    OUTPUT_TOOLTIPS = ("One line a fact.",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        return {"required": {"upscale_model": _UPSCALE_MODEL}}

    def describe(self, upscale_model: "Descriptor") -> dict[str, Any]:
        from . import model, placing

        location, handle = placing.locate(upscale_model)
        text = "\n".join(location.call(model.describe, handle))
        return {"ui": {"text": [text]}, "result": (text,)}


class IpexSelectDeviceUpscaler(SelectsDevice):
    DESCRIPTION = (
        "Runs an upscale model of any loader on a device of your choice. The input model is not "
        "changed: the placed one has weights of its own."
    )
    COMPONENT = ("upscale_model", "The upscale model to place.")
    RETURN_TYPES = ("UPSCALE_MODEL",)
    OUTPUT_TOOLTIPS = ("The same model, set to run on the chosen device.",)

    def select(
        self, upscale_model: "Descriptor", device: str, offload_device: str = devices.AUTO
    ) -> dict[str, Any]:
        from . import placing

        name = "the upscale model"
        chosen = placement.choose(device, name, host.primary_device)
        kept = placement.choose_offload(offload_device, name, chosen.location)
        result = placing.place(upscale_model, chosen.location, kept.device)
        warnings = tuple(filter(None, (chosen.warning, kept.warning)))
        return shown(placement.Placed(result, chosen.location, warnings))
