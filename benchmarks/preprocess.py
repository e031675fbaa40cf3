"""Preprocessors against controlnet_aux's detectors in the same process, on the same weights.

usage: preprocess.py [--tree COMFYUI] [--device cuda:0] [--cases HED MLSD ...] [--frames 16]

COMFYUI_DIR is the tree if --tree is not given. Weights are random, so that nothing need be
downloaded. The detectors take one picture a call, as their users call them, and are kept between
calls. Ours is the whole node: pictures on the CPU in, hints on the CPU out. Each figure is the
best of --repeats runs after one that is not counted. Differences are in 255ths.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from measuring import Meter, heading, start_host
from upscale_networks import pictures

SIDE = 512


@dataclass(frozen=True)
class Case:
    """A method of ours and the detector that it is compared with."""

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


CASES: dict[str, Case] = {
    "HED": Case(
        "hed:HEDdetector",
        {"ControlNetHED.pth": "hed:ControlNetHED_Apache2"},
        settings={"safe": True},
    ),
    "PiDiNet": Case(
        "pidi:PidiNetDetector",
        {"table5_pidinet.pth": "pidi.model:pidinet"},
        settings={"safe": True},
    ),
    "TEED": Case(
        "teed:TEEDdetector",
        {"7_model.pth": "teed.ted:TED"},
        {"filename": "7_model.pth"},
        sized=False,
    ),
    "Lineart": Case(
        "lineart:LineartDetector", {"sk_model.pth": "generator", "sk_model2.pth": "generator"}
    ),
    "MLSD": Case(
        "mlsd:MLSDdetector",
        {"mlsd_large_512_fp32.pth": "mlsd.models.mbv2_mlsd_large:MobileV2_MLSD_Large"},
    ),
    "MidasDepth": Case("midas:MidasDetector", {"dpt_hybrid-midas-501f0c75.pt": "midas"}),
}


@dataclass(frozen=True)
class Row:
    """One case."""

    case: str
    dtype: str
    theirs_s: float
    ours_s: float
    network_s: float
    """Of `ours_s`, what the method alone takes, pictures already on the device."""
    mean_difference: float
    largest_difference: float
    ours_peak_mib: float
    weights_read: int
    """By all timed runs of ours together."""

    @property
    def cells(self) -> list[str]:
        """For the table."""
        return [
            self.case,
            self.dtype,
            f"{self.theirs_s:.4f}",
            f"{self.ours_s:.4f}",
            f"{self.theirs_s / self.ours_s:.2f}x",
            f"{self.network_s:.4f}",
            f"{self.mean_difference:.3f}",
            f"{self.largest_difference:.2f}",
            f"{self.ours_peak_mib:.0f}",
            str(self.weights_read),
        ]


HEADER = (
    *("case", "dtype", "controlnet_aux s", "ours s", "speed", "method alone s"),
    *("mean difference", "largest", "peak MiB", "weights read"),
)


def network(source: str) -> Any:
    """A freshly initialised network, whose maps are not flat."""
    import torch
    from comfyui_ipex.nodes.preprocess.controlnet_aux import network_class

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


def write(case: Case, folder: Path) -> None:
    """The case's checkpoints."""
    import torch

    for name, source in case.files.items():
        torch.manual_seed(7)
        state = network(source).state_dict()
        if name == "table5_pidinet.pth":
            state = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
        torch.save(state, folder / name)


def theirs(case: Case, folder: Path, device: Any, images: Any) -> Callable[[], Any]:
    """The detector, picture by picture; fp32 [N, H, W, C] of 0 to 1."""
    import numpy as np
    import torch
    from comfyui_ipex.nodes.preprocess.controlnet_aux import network_class

    detector = network_class(f"controlnet_aux.{case.detector}").from_pretrained(
        str(folder), **case.named
    )
    detector.to(device)
    size = {"detect_resolution": SIDE} | ({"image_resolution": SIDE} if case.sized else {})

    def run() -> Any:
        frames = (images * 255).round().byte().numpy()
        made = [detector(frame, output_type="np", **size, **case.settings) for frame in frames]
        return torch.from_numpy(np.stack(made)).float() / 255

    return run


def _counted(load: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def counting(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return load(*arguments, **named)

    return counting


def measure(name: str, device: Any, precision: str, frames: int, repeats: int) -> Row:
    """One case."""
    import torch
    from comfyui_ipex.nodes.preprocess import catalogue, loaded, preprocessor
    from comfyui_ipex.nodes.preprocess.method import Batch

    images = (pictures(frames, SIDE, SIDE) * 255).round() / 255
    method, case = catalogue.METHODS[name], CASES[name]
    read: list[Any] = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        write(case, Path(folder))
        meter = Meter(device)
        reference = theirs(case, Path(folder), device, images)
        expected = reference()
        if float(expected.std()) < 0.01:
            raise RuntimeError(f"{name}: the detector's hints are flat, so nothing is compared.")
        theirs_s = meter.best(reference, repeats)

        def find(file: Any) -> Path:
            return Path(folder) / Path(file.name).name

        ours = preprocessor.holding(preprocessor.Preprocessor(method, device, precision, find))
        options = preprocessor.defaults(method)

        def run() -> Any:
            return preprocessor.apply(ours, images, preprocessor.Wishes(), options).pictures

        run()
        torch.load = _counted(torch.load, read)
        peak, result = meter.peak(run)
        ours_s = meter.best(run, repeats)
        known = loaded.network_of(method, options, device, precision, find)
        known.module.to(device)
        batch = Batch(
            images.to(device).movedim(-1, 1).contiguous(memory_format=known.network.layout)
        )
        alone = meter.best(lambda: method.run(known.module, batch, options), repeats)
        difference = (result[..., :1] - expected[..., :1]).abs() * 255
        dtype = next(known.module.parameters()).dtype
    return Row(
        name,
        str(dtype).removeprefix("torch."),
        theirs_s,
        ours_s,
        alone,
        float(difference.mean()),
        float(difference.max()),
        peak,
        len(read),
    )


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, default=os.environ.get("COMFYUI_DIR"))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="writes OUTPUT.md and OUTPUT.json")
    options = parser.parse_args(arguments)
    if options.tree is None:
        parser.error("say where a ComfyUI tree is: --tree, or COMFYUI_DIR")
    start_host(Path(options.tree), options.device == "cpu")
    import torch

    device = torch.device(options.device)
    lines = [
        *heading(device, "benchmarks/preprocess.py", list(arguments)),
        f"{options.frames} frames of {SIDE}x{SIDE}",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{' --- |' * len(HEADER)}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    rows = []
    for case in options.cases:
        rows.append(measure(case, device, options.precision, options.frames, options.repeats))
        lines.append(f"| {' | '.join(rows[-1].cells)} |")
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
    if options.output is not None:
        options.output.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        text = json.dumps([asdict(row) for row in rows], indent=1)
        options.output.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
