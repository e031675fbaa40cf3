"""Upscaling against the host's own node in the same process: time, agreement, memory.

usage: upscale.py [--tree COMFYUI] [--device cuda:0] [--cases compact:1024 compact:8x512 ...]

COMFYUI_DIR is the tree if --tree is not given. Weights are random, so that nothing need be
downloaded. Each figure is the best of --repeats runs after one that is not counted. "error" is
the largest difference, in 255ths, from the same network run untiled in fp32. On a GPU "peak" is
what torch's allocator held at most beside the weights; on the CPU it is what the process grew
by (Linux only), the result included.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measuring import MIB, Meter, heading, start_host
from upscale_networks import descriptor, pictures

CASES = ("compact:1024", "compact:2048", "compact:8x512", "rrdb:512", "rrdb:1024", "rrdb:8x512")

# Above this many pixels the untiled fp32 reference of an attention network takes too long.
REFERENCE_PIXELS = 2 << 20


@dataclass(frozen=True)
class Row:
    """One case."""

    case: str
    dtype: str
    plan: str
    host_s: float
    ours_s: float
    host_error: float
    ours_error: float
    host_peak_mib: float
    ours_peak_mib: float
    predicted_mib: float
    output_mib: float

    @property
    def cells(self) -> list[str]:
        """For the table."""
        return [
            self.case,
            self.dtype,
            f"{self.host_s:.4f}",
            f"{self.ours_s:.4f}",
            f"{self.host_s / self.ours_s:.2f}x",
            f"{self.host_error:.3f}",
            f"{self.ours_error:.3f}",
            f"{self.host_peak_mib:.0f}",
            f"{self.ours_peak_mib:.0f}",
            f"{self.predicted_mib:.0f}",
            f"{self.ours_peak_mib / self.predicted_mib:.3f}",
            f"{self.output_mib:.0f}",
        ]


HEADER = (
    *("case", "dtype", "host s", "ours s", "speed", "host error", "ours error"),
    *("host peak MiB", "ours peak MiB", "predicted MiB", "peak / predicted", "output MiB"),
)


def host_call(model: Any, images: Any, device: Any) -> Callable[[], Any]:
    """A run of the host's own node, whose model management is told of the model as its loader
    tells it."""
    import comfy.model_management as management
    import comfy.model_patcher
    from comfy_extras import nodes_upscale_model as host_nodes

    model.patcher = comfy.model_patcher.ModelPatcher(
        model.model, device, management.unet_offload_device()
    )
    node = host_nodes.ImageUpscaleWithModel()
    run = getattr(node, "upscale", None) or node.execute
    return lambda: run(model, images)[0]


def untiled(model: Any, images: Any, device: Any) -> Any:
    """fp32 without tiles and without TF32, one picture after the other."""
    import torch

    model.model.to(device)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    results = [
        model(image[None].movedim(-1, 1).to(device)).movedim(1, -1).cpu() for image in images
    ]
    torch.backends.cudnn.allow_tf32 = before
    model.model.cpu()
    return torch.cat(results)


def measure(case: str, device: Any, precision: str, repeats: int) -> Row:
    """One case, such as compact:1024 or rrdb:8x512."""
    import torch
    from comfyui_ipex.nodes.upscale import upscaler, upscaling
    from comfyui_ipex.nodes.upscale.plan import PLANNED
    from comfyui_ipex.xpu_runtime.managed_model import resident

    name, _, size = case.partition(":")
    frames, side = (int(part) for part in (size if "x" in size else f"1x{size}").split("x"))
    images = pictures(frames, side, side)
    meter = Meter(device)
    with torch.inference_mode():
        reference = None
        if name in ("compact", "rrdb", "span") or side * side <= REFERENCE_PIXELS:
            reference = untiled(descriptor(name), images, device)
        theirs = host_call(descriptor(name), images, device)
        theirs()
        host_peak, host_result = meter.peak(theirs)
        host_s = meter.best(theirs, repeats)
        model = descriptor(name)
        known = upscaler.prepare(model, device, precision)

        def ours() -> Any:
            return upscaling.upscale(model, images, upscaling.Size(), PLANNED)

        ours()
        ours_peak, result = meter.peak(ours)
        ours_s = meter.best(ours, repeats)
        with resident(known.patcher, 0):
            plan = upscaling.planned(model, known, images, PLANNED, None)
    output = result.nbytes / MIB
    predicted = plan.cost.peak / MIB + (output if device.type == "cpu" else 0)
    return Row(
        case,
        upscaler.precision.name_of(known.dtype or torch.float32),
        plan.text,
        host_s,
        ours_s,
        error(host_result, reference),
        error(result, reference),
        host_peak,
        ours_peak,
        predicted,
        output,
    )


def error(result: Any, reference: Any) -> float:
    """The largest difference in 255ths; NaN without a reference."""
    return float("nan") if reference is None else float((result - reference).abs().max() * 255)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, default=os.environ.get("COMFYUI_DIR"))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="writes OUTPUT.md and OUTPUT.json")
    options = parser.parse_args(arguments)
    if options.tree is None:
        parser.error("say where a ComfyUI tree is: --tree, or COMFYUI_DIR")
    start_host(Path(options.tree), options.device == "cpu")
    import torch

    device = torch.device(options.device)
    lines = [
        *heading(device, "benchmarks/upscale.py", list(arguments)),
        f"| {' | '.join(HEADER)} |",
        f"|{' --- |' * len(HEADER)}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    rows = []
    for case in options.cases:
        rows.append(measure(case, device, options.precision, options.repeats))
        lines.append(f"| {' | '.join(rows[-1].cells)} |")
        sys.stdout.write(f"{lines[-1]}\n    {rows[-1].plan}\n")
        sys.stdout.flush()
    if options.output is not None:
        options.output.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        text = json.dumps([asdict(row) for row in rows], indent=1)
        options.output.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
