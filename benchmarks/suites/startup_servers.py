"""ComfyUI servers of a kind, in folders of their own, that live as long as the bench process."""

import atexit
import contextlib
import ctypes
import functools
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...launcher.folders import REPOSITORY, child_environment
from ...launcher.installation import link_extension, prepare_base
from ...launcher.server import Server, ServerCommand, free_port
from .. import words
from ..case import CaseSettings
from ..result import Timing
from .sd_models import Family, state

PROMPT_S = 600.0

DOWN = contextlib.ExitStack()
"""What is to be ended with this process."""
atexit.register(DOWN.close)

_SEEDS = iter(range(1, 1 << 30))


@dataclass(frozen=True)
class Kind:
    """How a server differs from a bare one."""

    name: str
    extension: bool = False
    patched: bool = False


BARE = Kind("without")
EXTENDED = Kind("with this extension", extension=True)
PATCHED = Kind("patched", patched=True)


START = "start"

_USED: dict[tuple[str, Kind], list[float]] = defaultdict(list)
"""Processor time by what was done (START, or a family's name) and by whom."""


def _processor_seconds(server: Server) -> float:
    """By the process's own clock: its times elsewhere come in hundredths. Raises `OSError`."""
    pid = server.child.pid
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise OSError(error, f"The processor time of process {pid} cannot be read")
    return time.clock_gettime(clock.value)


def forget(what: str) -> None:
    """Let `processor_facts` tell of what comes from now on."""
    for key in [key for key in _USED if key[0] == what]:
        del _USED[key]


def processor_facts(what: str, kind: Kind) -> dict[str, Any]:
    """The servers' own processor time, which other load lengthens least: medians, and the ratio.

    They took turns, so that the ratio is that of pairs.
    """
    used = {one: _USED[what, one] for one in (kind, BARE)}
    facts: dict[str, Any] = {
        f"processor s {one.name}": round(statistics.median(times), 3)
        for one, times in used.items()
        if times
    }
    ratios = [bare / ours for ours, bare in zip(used[kind], used[BARE], strict=True)]
    if ratios:
        facts["processor time without over with"] = words.ratio(Timing.of(ratios))
    return facts


@functools.cache
def scratch() -> Path:
    """A folder that goes with this process."""
    return Path(DOWN.enter_context(tempfile.TemporaryDirectory(prefix="ipex-benchmarks-")))


@functools.cache
def patched_tree(tree: Path) -> Path:
    """A copy of `tree` with the patches in it. Raises `ValueError` if they do not fit it."""
    copy = scratch() / "patched"
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns("__pycache__", "custom_nodes"))
    (copy / "custom_nodes").mkdir()
    command = [sys.executable, str(REPOSITORY / "patches" / "apply.py"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"The patches do not fit this ComfyUI: {done.stderr.strip()}")
    return copy


def started(kind: Kind, settings: CaseSettings) -> Server:
    """A new server, which does not answer yet. Raises `ValueError` without a tree."""
    if settings.tree is None:
        raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
    tree = patched_tree(settings.tree) if kind.patched else settings.tree
    base = prepare_base(scratch() / kind.name.replace(" ", "-"), tree)
    if kind.extension:
        link_extension(base)
    log = DOWN.enter_context((base / "server.log").open("a", encoding="utf-8"))
    cpu = settings.device.type == "cpu"
    arguments = ["--disable-api-nodes", *(["--cpu"] if cpu else [])]
    command = ServerCommand((sys.executable,), tree, base, free_port(), arguments)
    environment = {**child_environment(), "HF_HUB_OFFLINE": "1"}
    if cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return Server(command, log, environment)


def start_seconds(kind: Kind, settings: CaseSettings) -> float:
    """How long a server takes until it answers; it is stopped then."""
    if kind.patched and settings.tree is not None:
        patched_tree(settings.tree)  # is not part of the start
    began = time.perf_counter()
    with started(kind, settings) as server:
        server.wait_ready()
        taken = time.perf_counter() - began
        _USED[START, kind].append(_processor_seconds(server))
    return taken


@functools.cache
def running_server(kind: Kind, settings: CaseSettings) -> Server:
    """The server of a kind that answers prompts."""
    server = DOWN.enter_context(started(kind, settings))
    server.wait_ready()
    return server


@functools.cache
def checkpoint(family: Family, tree: Path) -> Path:
    """A file with a family's weights; it goes with this process."""
    from safetensors.torch import save_file

    path = scratch() / f"{family.name}.safetensors"
    save_file(state(family, tree), path)
    return path


def answer_seconds(kind: Kind, settings: CaseSettings, family: Family) -> float:
    """How long a server takes for a prompt, by its own clock, with a seed that it has not seen."""
    server = running_server(kind, settings)
    if settings.tree is None or server.command.base is None:
        raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
    path = checkpoint(family, settings.tree)
    link = server.command.base / "models" / "checkpoints" / path.name
    if not link.exists():
        link.symlink_to(path)
    client = server.client
    before = _processor_seconds(server)
    record = client.wait(client.queue(workflow(family, path.name)), PROMPT_S)
    _USED[family.name, kind].append(_processor_seconds(server) - before)
    times = {kind: said["timestamp"] for kind, said in record["status"]["messages"]}
    return float(times["execution_success"] - times["execution_start"]) / 1000


def workflow(family: Family, checkpoint: str) -> dict[str, Any]:
    """A txt2img prompt with a seed that was not used before; node 7 shows the picture."""
    size = {"width": family.side, "height": family.side, "batch_size": 1}
    sampling = {"steps": family.steps, "cfg": 7.0, "denoise": 1.0, "seed": next(_SEEDS)}
    sampling |= {"sampler_name": "euler", "scheduler": "normal"}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0]}
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        "2": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a lighthouse in a storm"}),
        "3": ("CLIPTextEncode", {"clip": ["1", 1], "text": "blurry"}),
        "4": ("EmptyLatentImage", size),
        "5": ("KSampler", {**links, "latent_image": ["4", 0], **sampling}),
        "6": ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 2]}),
        "7": ("PreviewImage", {"images": ["6", 0]}),
    }
    return {
        number: {"class_type": kind, "inputs": inputs} for number, (kind, inputs) in nodes.items()
    }
