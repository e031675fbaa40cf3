#!/usr/bin/env python3
"""What the patches cost a host with no Intel device in play: patched over unpatched, in one run.

usage: .venv/bin/python benchmarks/patched_cost.py [STARTS [PROMPTS [CUDA_DEVICE]]]

Each of STARTS rounds starts one server of either kind, without custom nodes, and times it from
its first instruction until it answers; then both answer PROMPTS prompts in turns, each with a seed
of its own so that nothing comes from the cache. Without CUDA_DEVICE they run on the CPU. The
figures are medians and ranges; the best ones, and a server's own processor time, are those that
other load lengthens least.
"""

import contextlib
import statistics
import sys
import tempfile
import time
import types
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(REPOSITORY / "tests"))
package = types.ModuleType("comfyui_ipex")
package.__path__ = [str(REPOSITORY)]
sys.modules["comfyui_ipex"] = package

import hosts  # noqa: E402
import psutil  # noqa: E402
import servers  # noqa: E402
from servers import ComfyServer, Configuration  # noqa: E402

KINDS = {"unpatched": hosts.REFERENCE, "patched": hosts.PATCHED}

Clock = tuple[float, float]
"""Seconds on the wall, and of a server's processor time."""

Times = dict[str, list[Clock]]


def clock(server: ComfyServer | None = None) -> Clock:
    """The time now; a server that does not run yet has used none."""
    if server is None:
        return time.perf_counter(), 0.0
    used = psutil.Process(server.server.process.pid).cpu_times()
    return time.perf_counter(), used.user + used.system


def since(began: Clock, server: ComfyServer) -> Clock:
    """What has passed."""
    wall, used = clock(server)
    return wall - began[0], used - began[1]


def configuration(kind: str, cuda: str) -> Configuration:
    """A server of one kind without custom nodes."""
    arguments = ("--disable-all-custom-nodes", *(() if cuda else ("--cpu",)))
    return Configuration(KINDS[kind], arguments, extension=False, nvidia=bool(cuda))


def prompt_seconds(server: ComfyServer, seed: int) -> Clock:
    """How long one prompt takes, from being queued to its picture."""
    workflow = servers.without_our_nodes(servers.workflow("txt2img"))
    for node in workflow.values():
        if "seed" in node["inputs"]:
            node["inputs"]["seed"] = seed
    began = clock(server)
    server.run(workflow)
    return since(began, server)


def one_round(starts: Times, prompts: Times, count: int, cuda: str, reverse: bool) -> None:
    """Start both servers, one after the other, and have them answer prompts in turns."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = {}
        for kind in sorted(KINDS, reverse=reverse):
            began = clock()
            running[kind] = ComfyServer(configuration(kind, cuda), folder / kind, cuda)
            starts[kind].append(since(began, running[kind]))
            stack.callback(running[kind].close)
        for seed in range(-2, count):  # the first two load models and warm up
            for kind in sorted(KINDS, reverse=bool(seed % 2)):
                seconds = prompt_seconds(running[kind], seed + 100)
                if seed >= 0:
                    prompts[kind].append(seconds)


def write(name: str, times: Times) -> None:
    """A line a clock: both medians with their ranges, and the ratios."""
    for number, which in enumerate(("wall", "processor")):
        values = {kind: [sample[number] for sample in samples] for kind, samples in times.items()}
        shown = [
            f"{kind} {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"
            for kind, found in values.items()
        ]
        middle, best = (
            take(values["patched"]) / take(values["unpatched"]) for take in (statistics.median, min)
        )
        line = f"ratio of medians {middle:.3f}, of the best {best:.3f}"
        sys.stdout.write(f"{name:6} {which:9} s: {', '.join(shown)}; {line}\n")


def main(rounds: int, count: int, cuda: str) -> None:
    """Measure and write a line for the start and a line for a prompt."""
    starts: Times = {kind: [] for kind in KINDS}
    prompts: Times = {kind: [] for kind in KINDS}
    one_round({kind: [] for kind in KINDS}, {kind: [] for kind in KINDS}, 0, cuda, False)
    for number in range(rounds):
        one_round(starts, prompts, count, cuda, reverse=bool(number % 2))
    write("start", starts)
    write("prompt", prompts)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        int(given[0]) if given else 5,
        int(given[1]) if len(given) > 1 else 20,
        given[2] if len(given) > 2 else "",
    )
