"""Runs inside a host's process on two emulated cards: many prompts, and what they leave behind.

usage: soak.py MODELS EXTENSION PROMPTS NAME ...        (working directory: the host's tree)
Prompts go round the named nodes and the devices, some with another model, some interrupted at a
random moment, some with "Unload models". Prints one line of JSON.
"""

import ctypes
import gc
import json
import logging
import os
import random
import sys
import threading
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import worker

MODELS, EXTENSION, PROMPTS, WANTED = (
    Path(sys.argv[1]),
    sys.argv[2],
    int(sys.argv[3]),
    sys.argv[4:],
)
SERVED = worker.start(MODELS, EXTENSION)

import comfy.model_management as mm  # noqa: E402
import node_prompts  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402

import nodes  # noqa: E402

DEVICES = ("xpu:0", "xpu:1", "cpu")

# How often the process is looked at, with everything unloaded.
LOOKS = 10

MIB = 1 << 20

CHANCE = random.Random(12)
"""Always the same soak."""


def cache() -> ModuleType:
    """The module that holds networks for the next run, as the host loaded it."""
    name = next(name for name in sys.modules if name.endswith(".inference.cache"))
    return sys.modules[name]


def look() -> dict[str, float]:
    """What the process holds after all models were unloaded and all results forgotten.

    Networks that are kept on purpose are let go too: there are more of them the longer it goes on,
    up to their limit, since each is kept for each device that it was used on.
    """
    cache().NETWORKS.release()
    mm.unload_all_models()
    gc.collect()
    mm.soft_empty_cache()
    ctypes.CDLL(None).malloc_trim(0)
    return {
        "host MiB": psutil.Process().memory_info().rss / MIB,
        "device bytes": sum(torch.xpu.memory_allocated(index) for index in (0, 1)),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "tensors": sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects()),
    }


def one(index: int, tally: Counter[str]) -> None:
    """One prompt, perhaps interrupted."""
    name = WANTED[index % len(WANTED)]
    device = CHANCE.choice(DEVICES)
    prompt = node_prompts.workflow(name, nodes.NODE_CLASS_MAPPINGS[name], device, turn=index)
    interrupt = None
    if CHANCE.random() < 0.2:
        delay = CHANCE.uniform(0, 0.2)
        interrupt = threading.Timer(delay, mm.interrupt_current_processing)
        interrupt.start()
    outcome = SERVED.run(prompt, unload=CHANCE.random() < 0.2)
    if interrupt is not None:
        interrupt.cancel()
        interrupt.join()
        mm.interrupt_current_processing(False)
    if outcome.died or outcome.errors:
        tally[f"{name} on {device}: {outcome}"] += 1
    elif outcome.picture is not None or outcome.text:
        tally["results"] += 1
    elif interrupt is not None:
        tally["interrupted"] += 1
    else:
        tally[f"{name} on {device}: nothing"] += 1


def slope(values: list[float], step: float) -> float:
    """Growth per prompt, of the line that fits `values` best; they are `step` prompts apart."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    over = sum((index - middle) * (value - mean) for index, value in enumerate(values))
    return over / sum((index - middle) ** 2 for index in range(count)) / step


def main() -> dict[str, Any]:
    """All prompts."""
    logging.disable(logging.CRITICAL)
    node_prompts.register(nodes.NODE_CLASS_MAPPINGS)
    tally: Counter[str] = Counter()
    warm = max(len(WANTED) * 2, PROMPTS // 4)
    for index in range(warm):  # what is made once: libraries, caches, pinned buffers
        one(index, tally)
    looks = [look()]
    step = max(1, (PROMPTS - warm) // LOOKS)
    for index in range(warm, PROMPTS):
        one(index, tally)
        if (index - warm) % step == step - 1:
            looks.append(look())
    SERVED.close()
    kinds = ("results", "interrupted")
    return {
        "prompts": sum(tally.values()),
        **{kind: tally[kind] for kind in kinds},
        "wrong": [name for name in tally if name not in kinds],
        "looks": looks,
        "slope": {name: slope([one[name] for one in looks], step) for name in looks[0]},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
