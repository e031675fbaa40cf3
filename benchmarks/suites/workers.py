"""What a call to a worker costs, beside a copy in this process, and what working at a time gains.

The worker runs this same interpreter on the CPU, so that what is measured is the boundary and not a
card. How both processes grow stands among the facts.
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from ...nodes.pipeline.classes import IpexPipeline
from ...xpu_runtime.host.types import VAE
from ...xpu_runtime.placement import There
from ...xpu_runtime.placement.remote import place_vae
from ...xpu_runtime.worker_plan import WorkerPlan
from ...xpu_runtime.workers.wire import itself
from ...xpu_runtime.workers.worker import Worker
from ..case import NO_DTYPE, Case, CaseSettings, Side, Trial
from .sd_models import LoadedFamily, load_family

_MIB = 1 << 20

SIZES = (0, 1, 8, 64, 256)
"""MiB that go there and come back."""

QUICK = (0, 8)
_GROWTH_CALLS = 200
PICTURES = 6

SIDE = 128
"""Pixels. One step without a negative prompt takes about as long as decoding."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def cases() -> list[Case]:
    return [
        Case(
            f"{size} MiB there and back" if size else "a call",
            "a tensor handed to a worker and back, beside a copy of it",
            functools.partial(_call, size),
            NO_DTYPE,
            quick=size in QUICK,
        )
        for size in SIZES
    ] + [
        Case(
            f"{PICTURES} pictures {SIDE}x{SIDE}",
            "each is decoded by a worker while the next is sampled, beside one after another: the "
            "same nodes on the same two devices, one thread each",
            _overlap,
            ("fp32",),
        )
    ]


@functools.cache
def _one_thread_worker() -> Worker:
    with mock.patch.dict(os.environ, _ONE_THREAD):
        worker = Worker(WorkerPlan("decoder", "cpu", (sys.executable,)))
        worker.start()
    return worker


def _overlap(settings: CaseSettings) -> Trial:
    if settings.tree is None:
        raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
    found = load_family("tiny", settings.tree, torch.float32)
    there = place_vae(found.vae, There(_one_thread_worker(), torch.device("cpu")), None)
    inputs = _sampling(found)
    nodes = import_module("nodes")

    def one_after_another(vae: VAE) -> Any:
        sampled = nodes.KSampler().sample(**inputs)[0]
        return nodes.VAEDecode().decode(vae, sampled)[0]

    def at_a_time() -> Any:
        return IpexPipeline().sample_and_finish(**inputs, vae=there, at_once=1)["result"][0]

    return Trial(
        Side("Pipeline", _in_one_thread(at_a_time)),
        Side("one after another", _in_one_thread(functools.partial(one_after_another, there))),
        expected=functools.partial(one_after_another, found.vae),
        facts=lambda: _shares(inputs, there),
    )


def _sampling(found: LoadedFamily) -> dict[str, Any]:
    """KSampler's inputs."""
    encode = import_module("nodes").CLIPTextEncode().encode
    positive, negative = (encode(found.clip, text)[0] for text in ("a lighthouse", "blurry"))
    widgets = {"seed": 1, "steps": 1, "cfg": 1.0, "denoise": 1.0}
    return {
        **{"model": found.model, "positive": positive, "negative": negative, **widgets},
        **{"sampler_name": "euler", "scheduler": "normal"},
        "latent_image": {"samples": torch.zeros(PICTURES, 4, SIDE // 8, SIDE // 8)},
    }


def _shares(inputs: dict[str, Any], vae: VAE) -> dict[str, Any]:
    """Seconds of both halves, from which the best that could be had follows."""
    began = time.perf_counter()
    sampled = _in_one_thread(lambda: import_module("nodes").KSampler().sample(**inputs)[0])()
    between = time.perf_counter()
    vae.decode(sampled["samples"])
    ended = time.perf_counter()
    return {"sampling s": round(between - began, 2), "decoding s": round(ended - between, 2)}


def _in_one_thread(call: Callable[[], Any]) -> Callable[[], Any]:
    """`call`, with which torch has one thread: the other cores are the other device."""

    def call_with_one_thread() -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return call()
        finally:
            torch.set_num_threads(before)

    return call_with_one_thread


@functools.cache
def _worker() -> tuple[Worker, float]:
    """The one worker of this process, and the seconds until it was ready."""
    worker = Worker(WorkerPlan("worker", "cpu", (sys.executable,)))
    began = time.perf_counter()
    worker.start()
    return worker, time.perf_counter() - began


def private_mib(process: int) -> float:
    """MiB of a process that are in memory and its own. Raises `OSError` where it has ended."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon:"))


def _call(size: int, settings: CaseSettings) -> Trial:
    if settings.tree is None:
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
