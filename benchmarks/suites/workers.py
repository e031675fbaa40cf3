"""What a call to a worker costs, beside a copy in this process.

The worker runs this same interpreter on the CPU, so that what is measured is the boundary and not a
card. It needs Ray (the extra `workers`). How both processes grow stands among the facts.
"""

import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ...xpu_runtime.worker_plan import WorkerPlan
from ...xpu_runtime.workers.wire import itself
from ...xpu_runtime.workers.worker import Worker
from ..case import NO_DTYPE, Case, Place, Side, Trial

_MIB = 1 << 20

SIZES = (0, 1, 8, 64, 256)
"""MiB that go there and come back."""

QUICK = (0, 8)

_GROWTH_CALLS = 200


def cases() -> list[Case]:
    """The suite."""
    return [
        Case(
            f"{size} MiB there and back" if size else "a call",
            "a tensor handed to a worker and back, beside a copy of it",
            functools.partial(_call, size),
            NO_DTYPE,
            quick=size in QUICK,
        )
        for size in SIZES
    ]


@functools.cache
def _worker() -> tuple[Worker, float]:
    """The one worker of this process, and the seconds until it and Ray were ready."""
    worker = Worker(WorkerPlan("worker", "cpu", (sys.executable,)))
    began = time.perf_counter()
    worker.start()
    return worker, time.perf_counter() - began


def private_mib(process: int) -> float:
    """MiB of a process that are in memory and its own. Raises `OSError` where it has ended."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon:"))


def _call(size: int, place: Place) -> Trial:
    if place.tree is None:
        raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
    worker, ready = _worker()
    tensor = torch.rand(max(1, size * _MIB // 4))

    def there_and_back() -> Any:
        return worker.call(itself, tensor)

    def facts() -> dict[str, Any]:
        found = {"worker ready after s": round(ready, 1)}
        if size == QUICK[-1]:
            before = _held(worker)
            for _ in range(_GROWTH_CALLS):
                there_and_back()
            after = _held(worker)
            found |= {f"{name} grew MiB": round(after[name] - before[name], 1) for name in before}
        return found

    return Trial(
        Side("worker", there_and_back),
        Side("a copy here", tensor.clone),
        expected=lambda: tensor,
        facts=facts,
        keep=(worker,),
    )


def _held(worker: Worker) -> dict[str, float]:
    """MiB of both processes' own memory, by who it is."""
    if worker.process is None:
        raise RuntimeError("The worker has ended, so that its memory cannot be read.")
    return {"host": private_mib(os.getpid()), "worker": private_mib(worker.process)}
