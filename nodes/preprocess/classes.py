"""The preprocessor nodes: V1 classes over `preprocessor`, one for each row of the catalogue."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...inference import precision
from ...xpu_runtime import devices, host, placement
from ..select_device import TakesDevice, device_widget
from .catalogue import METHODS
from .method import Method, Option, WeightFile

if TYPE_CHECKING:
    from .preprocessor import Hints, Preprocessor

CATEGORY = "IPEX/preprocess"

_MOST_PIXELS = 1 << 14

_RESOLUTION = 512

Inputs = dict[str, tuple[Any, dict[str, Any]]]

_HINTS = "The hints, for a ControlNet: as many as pictures came in."

_ALL = "Any preprocessor of this extension; what can be set has its default."


@dataclass(frozen=True)
class Finder:
    """Says where a weight file lies, and fetches it if need be and `download` allows it.

    Its fields are all of it, so that a worker can do the same.
    """

    download: bool

    def __call__(self, file: WeightFile) -> Path:
        """The file's path. Raises what `weights.locate` raises."""
        from .weights import locate

        return locate(file, download=self.download)


def widget(option: Option) -> tuple[Any, dict[str, Any]]:
    """The host's form of an option."""
    extra: dict[str, Any] = {"default": option.default, "tooltip": option.tooltip}
    if option.choices:
        return list(option.choices), extra
    if isinstance(option.default, bool):
        return "BOOLEAN", extra
    if isinstance(option.default, str):
        return "STRING", extra
    names = {"min": option.least, "max": option.most, "step": option.step}
    extra |= {name: value for name, value in names.items() if value is not None}
    return "INT" if isinstance(option.default, int) else "FLOAT", extra


def _image() -> Inputs:
    return {"image": ("IMAGE", {"tooltip": "Pictures or frames of a video: gray, RGB or RGBA."})}


def _mask() -> Inputs:
    return {"mask": ("MASK", {"tooltip": "For Inpaint, what is to be painted: one, or one each."})}


def _size() -> Inputs:
    resolution = {
        "default": _RESOLUTION,
        "min": 0,
        "max": _MOST_PIXELS,
        "step": 64,
        "tooltip": "Pixels of the short side; the long one follows. 0: the picture's own size.",
    }
    match = {"default": False, "tooltip": "Brings the result back to the picture's size."}
    return {"resolution": ("INT", resolution), "match_input_size": ("BOOLEAN", match)}


def _device() -> Inputs:
    return {"device": device_widget()}


def _weights() -> Inputs:
    half = {
        "default": precision.AUTO,
        "tooltip": "What a network computes in. 'auto' takes half precision on a GPU if a test "
        "picture then differs from fp32 by less than 2 of 255.",
    }
    download = {
        "default": True,
        "tooltip": "Weights that are not on this machine are downloaded, once. Off: an error says "
        "where they were looked for.",
    }
    return {"precision": (precision.CHOICES, half), "download": ("BOOLEAN", download)}


def _choice() -> Inputs:
    return {"preprocessor": (sorted(METHODS, key=str.lower), {"tooltip": _ALL})}


class _Node(TakesDevice):
    CATEGORY = CATEGORY

    @classmethod
    def VALIDATE_INPUTS(cls, device: str = devices.AUTO) -> bool | str:  # noqa: N802
        """As for all devices; the host leaves out what a workflow leaves out."""
        return super().VALIDATE_INPUTS(device)


def prepared(method: Method, device: str, request: str, download: bool) -> "Preprocessor":
    from .preprocessor import Preprocessor

    chosen = placement.choose(device, f"the preprocessor {method.title}", host.primary_device)
    return Preprocessor(method, chosen.location, request, Finder(download))


class _MethodNode(_Node):
    """What the plain nodes share: each is a method, with all that can be set."""

    METHOD: Method
    FUNCTION = "preprocess"
    RETURN_TYPES: tuple[str, ...] = ("IMAGE",)
    OUTPUT_TOOLTIPS: tuple[str, ...] = (_HINTS,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Inputs]:  # noqa: N802 (the host's name)
        method = cls.METHOD
        optional = {option.name: widget(option) for option in method.options}
        if not method.keeps_size:
            optional |= _size()
        optional |= _device()
        if method.networks:
            optional |= _weights()
        return {"required": _image() | (_mask() if method.takes_mask else {}), "optional": optional}

    def preprocess(
        self,
        image: Any,
        mask: Any = None,
        resolution: int = _RESOLUTION,
        match_input_size: bool = False,
        device: str = devices.AUTO,
        precision: str = precision.AUTO,
        download: bool = True,
        **options: Any,
    ) -> Any:
        """fp32 [B, H, W, 3] on the CPU; pose estimators give POSE_KEYPOINT too."""
        own = prepared(self.METHOD, device, precision, download)
        found = _applied(own, image, resolution, match_input_size, mask, options)
        if not self.METHOD.gives_poses:
            return (found.pictures,)
        shown = json.dumps(found.poses)
        return {"ui": {"openpose_json": [shown]}, "result": (found.pictures, found.poses)}


def node_of(name: str) -> type[_MethodNode]:
    """The plain node of the method `name`: "HED" -> `IpexHEDPreprocessor`."""
    method = METHODS[name]
    poses = {
        "RETURN_TYPES": ("IMAGE", "POSE_KEYPOINT"),
        "OUTPUT_TOOLTIPS": (_HINTS, "The poses in OpenPose's form, in pixels of the hints."),
    }
    attributes: dict[str, Any] = {
        "__doc__": method.description,
        "METHOD": method,
        "CATEGORY": f"{CATEGORY}/{method.group}",
        "DESCRIPTION": method.description,
        "SEARCH_ALIASES": ["controlnet", "annotator", *method.aliases],
    }
    extra = poses if method.gives_poses else {}
    return type(f"Ipex{name}Preprocessor", (_MethodNode,), attributes | extra)


class IpexLoadPreprocessor(_Node):
    FUNCTION = "load"
    DESCRIPTION = (
        "Loads a preprocessor for a device of your choice. Its network moves there when it is "
        "used, stays for the next run, and leaves when ComfyUI needs the memory."
    )
    RETURN_TYPES = ("PREPROCESSOR",)
    OUTPUT_TOOLTIPS = ("The preprocessor, for Apply Preprocessor (IPEX).",)
    SEARCH_ALIASES = ["controlnet", "annotator", "detector", "load preprocessor"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Inputs]:  # noqa: N802 (the host's name)
        return {"required": _choice() | _device() | _weights()}

    def load(
        self, preprocessor: str, device: str, precision: str, download: bool
    ) -> "tuple[Preprocessor]":
        """The preprocessor; the weights of its network are read now."""
        from .preprocessor import hold_network

        return (hold_network(prepared(METHODS[preprocessor], device, precision, download)),)


class IpexApplyPreprocessor:
    CATEGORY = CATEGORY
    FUNCTION = "apply"
    DESCRIPTION = (
        "Makes hints for a ControlNet with a preprocessor that was loaded, for pictures or the "
        "frames of a video: as many at once as fit the memory."
    )
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = (_HINTS,)
    SEARCH_ALIASES = ["controlnet", "annotator", "hint", "apply preprocessor"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Inputs]:  # noqa: N802 (the host's name)
        socket = ("PREPROCESSOR", {"tooltip": "From Load Preprocessor (IPEX)."})
        return {"required": {"preprocessor": socket} | _image() | _size(), "optional": _mask()}

    def apply(
        self,
        preprocessor: "Preprocessor",
        image: Any,
        resolution: int = _RESOLUTION,
        match_input_size: bool = False,
        mask: Any = None,
    ) -> tuple[Any]:
        """fp32 [B, H, W, 3] on the CPU."""
        return (_applied(preprocessor, image, resolution, match_input_size, mask).pictures,)


def _applied(
    found: "Preprocessor",
    image: Any,
    resolution: int,
    match: bool,
    mask: Any,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> "Hints":
    """What is not among `options` has its default."""
    from .preprocessor import HintSize, apply, default_options

    wanted = {**default_options(found.method), **options}
    return apply(found, image, HintSize(resolution, match), wanted, mask)


class IpexAIOPreprocessor(_Node):
    FUNCTION = "preprocess"
    DESCRIPTION = "Any preprocessor in one node, with the defaults of what can be set."
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = (_HINTS,)
    SEARCH_ALIASES = ["AIO_Preprocessor", "aux preprocessor", "controlnet", "annotator"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Inputs]:  # noqa: N802 (the host's name)
        optional = _mask() | _size() | _device() | _weights()
        return {"required": _image() | _choice(), "optional": optional}

    def preprocess(
        self,
        image: Any,
        preprocessor: str,
        mask: Any = None,
        resolution: int = _RESOLUTION,
        match_input_size: bool = False,
        device: str = devices.AUTO,
        precision: str = precision.AUTO,
        download: bool = True,
    ) -> tuple[Any]:
        """fp32 [B, H, W, 3] on the CPU."""
        found = prepared(METHODS[preprocessor], device, precision, download)
        return (_applied(found, image, resolution, match_input_size, mask).pictures,)
