#!/usr/bin/env python3
"""Steps of the host's UNets as found and as IPEX Optimize runs them.

usage: python benchmarks/optimize.py --tree COMFYUI [--device cuda:0] [--cases sd15:512 tiny:512]

Weights are random. Each case is a model and a size in pixels; a step takes two latents, as prompt
and negative prompt do. `auto` is the node as it is by default; its ways are measured by the node
itself, in one process, and torch's caches on disk are off. `torch full` is torch's own
`torch.compile(network, mode="reduce-overhead")`, `ipex` is `ipex.optimize(network)` where IPEX is
installed. `--clock thread` counts CPU seconds of this thread, for busy machines and one torch
thread; it is for the ways of `--against`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measuring import Meter, heading, start_host
from optimize_models import inputs, network

CASES = ("tiny:512", "sd15:512", "sd15:1024")

HEADER = ("case", "way", "step ms", "speed", "error", "ready after s", "graphs compiled", "kept")


@dataclass(frozen=True)
class Row:
    """One way to run the steps of one case."""

    case: str
    way: str
    ms: float
    speed: float
    error: float
    ready: float
    """Seconds from the first call until it ran at full speed."""
    compiled: int
    """Graphs that torch has compiled in this process until then."""
    kept: str = ""

    @property
    def cells(self) -> list[str]:
        """The table's."""
        figures = [f"{self.ms:.2f}", f"{self.speed:.2f}x", f"{self.error:.1e}", f"{self.ready:.1f}"]
        return [self.case, self.way, *figures, str(self.compiled), self.kept]


def compiled() -> int:
    """Graphs that torch has compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"].get("unique_graphs", 0))


def auto_rows(case: str, patcher: Any, side: int, wishes: Any) -> list[Row]:
    """What the node measures for a case."""
    from comfyui_ipex.xpu_runtime import optimizing

    before = compiled()
    done = optimizing.optimize(patcher, wishes, (2, side // 8, side // 8))
    sys.stdout.write(f"    {done.text}\n")
    rows = []
    for outcome in done.outcomes:
        rows.append(Row(case, "as found", outcome.found * 1000, 1.0, 0.0, 0.0, before))
        for one in outcome.tried:
            speed = outcome.found / one.seconds
            kept = "yes" if one.variant == outcome.kept else one.problem or "no"
            figures = (one.seconds * 1000, speed, one.error, one.preparing)
            rows.append(Row(case, one.variant.name, *figures, compiled(), kept))
    return rows


def lora_row(case: str, patcher: Any, side: int, wishes: Any) -> Row:
    """A model with changed weights, after the same without: what is compiled and how it differs."""
    import torch
    from comfyui_ipex.xpu_runtime import optimizing
    from comfyui_ipex.xpu_runtime.optimizing.trial import error_of

    source = torch.Generator().manual_seed(1)
    weights = patcher.model.state_dict()
    names = [name for name in weights if name.endswith("to_q.weight")]
    changes = {
        name: ("diff", (torch.randn(weights[name].shape, generator=source) * 0.02,))
        for name in names
    }
    plain, optimised = patcher.clone(), optimizing.optimize(patcher, wishes).model
    results, seconds = [], 0.0
    for one in (plain, optimised):
        one.add_patches(changes)
        results.append(step_result(one, side))
        began = time.perf_counter()
        step_result(one, side)
        seconds = time.perf_counter() - began
    error = error_of(results[1], results[0])
    return Row(case, "auto, LoRA after it", seconds * 1000, float("nan"), error, 0.0, compiled())


def step_result(patcher: Any, side: int) -> Any:
    """The result of the node's example step."""
    import torch
    from comfyui_ipex.xpu_runtime import host

    results: list[Any] = []
    model, given = patcher.model, patcher.model.apply_model

    def apply_model(*inputs: Any, **named: Any) -> Any:
        results.append(given(*inputs, **named))
        return results[-1]

    model.apply_model = apply_model
    try:
        with torch.inference_mode():
            host.run_example_step(patcher, side // 8, side // 8, 2)
    finally:
        del model.apply_model
    return results[-1]


def best(call: Any, repeats: int, meter: Meter, clock: str) -> float:
    """Seconds of the fastest of `repeats` calls."""
    if clock == "wall":
        return meter.best(call, repeats)
    seconds = []
    for _ in range(repeats):
        began = time.thread_time()
        call()
        seconds.append(time.thread_time() - began)
    return min(seconds)


def other_row(case: str, way: str, patcher: Any, side: int, options: argparse.Namespace) -> Row:
    """The bare network as it is and as one of `WAYS` makes it."""
    import torch
    from comfyui_ipex.xpu_runtime.optimizing.trial import error_of

    meter, repeats, clock = Meter(patcher.load_device), options.repeats, options.clock
    unet = patcher.model.diffusion_model
    args, named = inputs(patcher, side)
    with torch.inference_mode():
        reference = unet(*args, **named)
        found = best(lambda: unet(*args, **named), repeats, meter, clock)
        made = WAYS[way](unet)
        began = time.perf_counter()
        for _ in range(3):
            result = made(*args, **named).clone()
        meter.synchronize()
        ready = time.perf_counter() - began
        own = best(lambda: made(*args, **named), repeats, meter, clock)
        error = error_of(result, reference)
        found = min(found, best(lambda: unet(*args, **named), repeats, meter, clock))
    row = Row(case, way, own * 1000, found / own, error, max(0.0, ready - 3 * own), compiled())
    torch._dynamo.reset()
    return row


def torch_full(unet: Any) -> Any:
    """torch's own way to make a network fast."""
    import torch

    return torch.compile(unet, mode="reduce-overhead", dynamic=False)


def ipex_optimised(unet: Any) -> Any:
    """A copy of the network, through IPEX."""
    import copy

    import intel_extension_for_pytorch as ipex

    made = ipex.optimize(copy.deepcopy(unet).eval())
    kinds = {type(one).__module__ for one in made.modules()}
    replaced = sum("intel_extension" in kind for kind in kinds)
    sys.stdout.write(f"    kinds of layers that IPEX put in: {replaced}\n")
    return made


def channels_last(unet: Any) -> Any:
    """A copy of the network in the other layout."""
    import copy

    from comfyui_ipex.xpu_runtime.optimizing.layout import lay_out

    made = copy.deepcopy(unet)
    lay_out(made, True)
    return made


WAYS = {"torch full": torch_full, "channels_last": channels_last, "ipex": ipex_optimised}


def measure(options: argparse.Namespace, report: Any) -> None:
    """All cases; `report` takes each row."""
    import comfy.model_management
    import torch
    from comfyui_ipex.xpu_runtime.optimizing import Wishes

    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype)
    wishes = Wishes(compile=options.compile, mode=options.mode)
    patchers: dict[str, Any] = {}
    for case in options.cases:
        name, _, size = case.partition(":")
        patcher = patchers.setdefault(name, network(name, device, dtype))
        if options.skip_auto:
            continue
        for row in auto_rows(case, patcher, int(size), wishes):
            report(row)
        report(lora_row(case, patcher, int(size), wishes))
    for way in options.against:
        for case in options.cases:
            name, _, size = case.partition(":")
            comfy.model_management.load_models_gpu([patchers[name]], force_full_load=True)
            report(other_row(case, way, patchers[name], int(size), options))


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, default=os.environ.get("COMFYUI_DIR"))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--against", nargs="*", choices=list(WAYS), default=[])
    parser.add_argument("--skip-auto", action="store_true")
    parser.add_argument("--clock", choices=["wall", "thread"], default="wall")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="writes OUTPUT.md and OUTPUT.json")
    options = parser.parse_args(arguments)
    if options.tree is None:
        parser.error("say where a ComfyUI tree is: --tree, or COMFYUI_DIR")
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    start_host(Path(options.tree), options.device == "cpu")
    import torch

    lines = [
        *heading(torch.device(options.device), "benchmarks/optimize.py", list(arguments)),
        f"| {' | '.join(HEADER)} |",
        f"|{' --- |' * len(HEADER)}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        lines.append(f"| {' | '.join(row.cells)} |")
        sys.stdout.write(f"{lines[-1]}\n")
        sys.stdout.flush()
        if options.output is not None:
            text = json.dumps([asdict(one) for one in rows], indent=1)
            options.output.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
            options.output.with_suffix(".json").write_text(text + "\n", encoding="utf-8")

    measure(options, report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
