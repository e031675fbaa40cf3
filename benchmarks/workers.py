"""What a call to a worker and a megabyte across the boundary cost, and whether anything grows.

usage: workers.py [--tree COMFYUI] [--repeats 20] [--calls 200]

The worker runs this same interpreter on the CPU, so that what is measured is the boundary and not
a card. COMFYUI_DIR is the tree if --tree is not given. A row is the median of --repeats calls that
hand a tensor to the worker and get it back; "in process" is a copy of the same tensor. Resident
memory is read before and after --calls calls of 8 MiB there and back.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import MIB, heading, start_host

SIZES = (0, 1, 8, 64, 256)
"""MiB."""


def seconds_of(call: Callable[[], Any], repeats: int) -> float:
    """The median."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def resident(process: int) -> float:
    """MiB of a process that are in memory."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise KeyError("RssAnon")


def table(worker: Any, repeats: int) -> list[str]:
    """A row a size."""
    import torch
    from comfyui_ipex.xpu_runtime.workers.wire import itself

    rows = ["| MiB each way | call ms | ms a MiB | in process ms |", "| --- | --- | --- | --- |"]
    empty = 0.0
    for size in SIZES:
        tensor = torch.rand(max(1, size * MIB // 4))
        worker.call(itself, tensor)
        taken = seconds_of(lambda sent=tensor: worker.call(itself, sent), repeats) * 1e3
        copied = seconds_of(tensor.clone, repeats) * 1e3
        empty = empty or taken
        each = f"{(taken - empty) / (2 * size):.2f}" if size else ""
        rows.append(f"| {size} | {taken:.2f} | {each} | {copied:.2f} |")
    return rows


def growth(worker: Any, calls: int) -> str:
    """Resident memory of both processes before and after many calls."""
    import torch
    from comfyui_ipex.xpu_runtime.workers.wire import itself

    tensor = torch.rand(2 * MIB)
    found = []
    for count in (20, calls):
        for _ in range(count):
            worker.call(itself, tensor)
        found.append((resident(os.getpid()), resident(worker.process)))
    before, after = found
    return (
        f"After {calls} calls of 8 MiB there and back, this process had grown by "
        f"{after[0] - before[0]:.1f} MiB and the worker by {after[1] - before[1]:.1f} MiB "
        "(private memory, after 20 calls that are not counted)."
    )


def main() -> None:
    """Start a worker, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, default=os.environ.get("COMFYUI_DIR"))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--calls", type=int, default=200)
    given = sys.argv[1:]
    asked = parser.parse_args()
    start_host(asked.tree, cpu=True)
    import torch
    from comfyui_ipex.xpu_runtime.worker_plan import WorkerPlan
    from comfyui_ipex.xpu_runtime.workers.worker import Worker

    worker = Worker(WorkerPlan("worker", "cpu", (sys.executable,)))
    began = time.perf_counter()
    worker.start()
    started = time.perf_counter() - began
    lines = heading(torch.device("cpu"), "benchmarks/workers.py", given)
    lines += table(worker, asked.repeats)
    lines += [
        "",
        f"Ray and the worker were ready after {started:.1f} s.",
        growth(worker, asked.calls),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
