"""Preprocessors against controlnet_aux's detectors in the same process, on the same weights.

Weights are random, so that nothing need be downloaded. The detectors take one picture a call, as
their users call them, and are kept between calls. Ours is the whole node: pictures on the CPU in,
hints on the CPU out. The error is the mean difference from the detectors' hints, in 255ths.
"""

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...nodes import optimizing
from ...nodes.preprocess import catalogue, preprocessor
from ...nodes.preprocess.controlnet_aux import network_class
from ...nodes.preprocess.method import Batch, Method, WeightFile
from ...xpu_runtime.optimizing import OptimizeSettings
from ...xpu_runtime.optimizing.settings import FULL
from ...xpu_runtime.placement import Here
from ..case import NO_DTYPE, Case, CaseSettings, Side, Trial
from .upscale_networks import pictures

QUICK, CAREFUL = (2, 128), (16, 512)
"""Frames, and pixels on each side of one."""

ON_QUICK = ("HED", "TEED")

COMPILED = ("Lineart",)
"""Measured with a compiled network too: it spends as long on norms as on convolutions."""


@dataclass(frozen=True)
class Detector:
    """A detector of controlnet_aux, which a method of ours is compared with."""

    detector: str
    """Its module and class in controlnet_aux."""
    files: Mapping[str, str]
    """What makes the network of each weight file: module and class, or a function below."""
    named: Mapping[str, str] = field(default_factory=dict)
    """What `from_pretrained` has to be told."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What it is called with, so that it does what our default options say."""
    sized: bool = True
    """Whether the detector takes `image_resolution`."""


DETECTORS: dict[str, Detector] = {
    "HED": Detector(
        "hed:HEDdetector",
        {"ControlNetHED.pth": "hed:ControlNetHED_Apache2"},
        settings={"safe": True},
    ),
    "PiDiNet": Detector(
        "pidi:PidiNetDetector",
        {"table5_pidinet.pth": "pidi.model:pidinet"},
        settings={"safe": True},
    ),
    "TEED": Detector(
        "teed:TEEDdetector",
        {"7_model.pth": "teed.ted:TED"},
        {"filename": "7_model.pth"},
        sized=False,
    ),
    "Lineart": Detector(
        "lineart:LineartDetector", {"sk_model.pth": "generator", "sk_model2.pth": "generator"}
    ),
    "MLSD": Detector(
        "mlsd:MLSDdetector",
        {"mlsd_large_512_fp32.pth": "mlsd.models.mbv2_mlsd_large:MobileV2_MLSD_Large"},
    ),
    "MidasDepth": Detector("midas:MidasDetector", {"dpt_hybrid-midas-501f0c75.pt": "midas"}),
}


def network(source: str) -> Any:
    """A freshly initialised network, whose maps are not flat."""
    if source == "generator":
        return network_class("controlnet_aux.lineart:Generator")(3, 1, 3)
    if source == "midas":
        kind = network_class("controlnet_aux.midas.midas.dpt_depth:DPTDepthModel")
        made = kind(path=None, backbone="vitb_rn50_384", non_negative=True)
        with torch.no_grad():  # else all that it says is below 0, and cut off
            made.scratch.output_conv[4].bias.fill_(1)
        return made
    made = network_class(f"controlnet_aux.{source}")()
    for name, gain in (("classifier.weight", 400), ("block23.conv3.weight", 400)):
        if name in dict(made.named_parameters()):
            with torch.no_grad():
                made.get_parameter(name).mul_(gain)
    return made


def write(case: Detector, folder: Path) -> None:
    for name, source in case.files.items():
        torch.manual_seed(7)
        state = network(source).state_dict()
        if name == "table5_pidinet.pth":
            state = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
        torch.save(state, folder / name)


def theirs(
    case: Detector, folder: Path, device: torch.device, images: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """The detector, picture by picture; fp32 [N, H, W, C] of 0 to 1."""
    side = images.shape[1]
    detector = network_class(f"controlnet_aux.{case.detector}").from_pretrained(
        str(folder), **case.named
    )
    detector.to(device)
    size = {"detect_resolution": side} | ({"image_resolution": side} if case.sized else {})

    def detect() -> torch.Tensor:
        frames = (images * 255).round().byte().numpy()
        made = [detector(frame, output_type="np", **size, **case.settings) for frame in frames]
        return torch.from_numpy(np.stack(made)).float() / 255

    return detect


def cases() -> list[Case]:
    made = []
    for name in DETECTORS:
        for size in (QUICK, CAREFUL):
            rest = {"quick": size == QUICK and name in ON_QUICK, "gpu_only": size != QUICK}
            shown = f"{size[0]} frames of {size[1]}"
            made.append(
                Case(
                    f"{name} {shown}",
                    "our node against controlnet_aux's detector",
                    functools.partial(_node, name, size),
                    NO_DTYPE,
                    error_unit="255ths",
                    **rest,
                )
            )
            made.append(
                Case(
                    f"{name} {shown} method alone",
                    "the method without the node: pictures on the device in, hints there out",
                    functools.partial(_alone, name, size),
                    NO_DTYPE,
                    **rest,
                )
            )
    for name in COMPILED:
        made.append(
            Case(
                f"{name} {CAREFUL[0]} frames of {CAREFUL[1]} compiled",
                "the node after IPEX Optimize (Preprocessor) has compiled its network",
                functools.partial(_node, name, CAREFUL, compiled=True),
                NO_DTYPE,
                error_unit="255ths",
                gpu_only=True,
            )
        )
    return made


@dataclass(frozen=True)
class _Ready:
    """A method with its weights in a folder that lives as long as this does."""

    method: Method
    folder: "tempfile.TemporaryDirectory[str]"
    images: torch.Tensor

    def find(self, file: WeightFile) -> Path:
        return Path(self.folder.name, Path(file.name).name)


def _ready(name: str, size: tuple[int, int]) -> _Ready:
    folder = tempfile.TemporaryDirectory(prefix="ipex-benchmarks-")
    write(DETECTORS[name], Path(folder.name))
    images = (pictures(size[0], size[1], size[1]) * 255).round() / 255
    return _Ready(catalogue.METHODS[name], folder, images)


def _node(
    name: str, size: tuple[int, int], settings: CaseSettings, compiled: bool = False
) -> Trial:
    ready = _ready(name, size)
    reference = theirs(DETECTORS[name], Path(ready.folder.name), settings.device, ready.images)
    expected = reference()
    if float(expected.std()) < 0.01:
        raise RuntimeError(f"{name}: the detector's hints are flat, so nothing is compared.")
    ours = preprocessor.hold_network(
        preprocessor.Preprocessor(ready.method, Here(settings.device), "auto", ready.find)
    )
    said = {}
    if compiled:
        ours, report = optimizing.optimize_preprocessor(ours, OptimizeSettings(compile=FULL))
        said = {"report": " / ".join(report.split("\n"))}
    options = preprocessor.default_options(ready.method)

    def preprocess() -> Any:
        return preprocessor.apply(ours, ready.images, preprocessor.HintSize(), options).pictures

    return Trial(
        Side("ours", preprocess),
        Side("controlnet_aux", reference),
        expected=lambda: expected,
        differ=lambda got, wanted: float(_difference(got, wanted).mean()),
        facts=lambda: {
            "largest difference /255": round(float(_difference(preprocess(), expected).max()), 2),
            "weights read by a run": _weights_read(preprocess),
            **said,
        },
        keep=(ready,),
    )


def _difference(got: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return (got[..., :1] - wanted[..., :1]).abs() * 255


def _weights_read(run: Callable[[], Any]) -> int:
    """How many files one run of a loaded network reads."""
    read: list[object] = []
    load = torch.load

    def counting(*arguments: object, **named: object) -> Any:
        read.append(arguments)
        return load(*arguments, **named)

    torch.load = counting
    try:
        run()
    finally:
        torch.load = load
    return len(read)


def _alone(name: str, size: tuple[int, int], settings: CaseSettings) -> Trial:
    ready = _ready(name, size)
    options = preprocessor.default_options(ready.method)
    spec = preprocessor.PreprocessorSpec(ready.method, settings.device, "auto", ready.find)
    network = preprocessor.network_of(spec, options)
    assert network is not None
    dtype = network.settle()
    network.module.to(settings.device)
    layout = network.traits.layout(settings.device)
    batch = Batch(ready.images.to(settings.device).movedim(-1, 1).contiguous(memory_format=layout))
    return Trial(
        Side("method", lambda: ready.method.make_hint(network.module, batch, options)),
        facts=lambda: {"dtype": str(dtype).removeprefix("torch.")},
        keep=(ready, network),
    )
