"""Independent prompts on two servers of one thread each, beside one such server.

What is measured is the pool: giving out prompts, waiting for them and collecting what they saved.
It says nothing where two threads do not have a core each: the conditions in the file tell the load.
"""

import functools
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...batch.board import Attempt, Board
from ...batch.jobs import Job
from ...batch.outputs import Output
from ...batch.plans import ServerPlan
from ...batch.pool import Pool
from ...batch.servers import BatchServer, SentFile
from ...launcher.installation import link_extension, prepare_base
from ..case import NO_DTYPE, Case, CaseSettings, Side, Trial
from .sd_models import FAMILIES, Family
from .startup_servers import DOWN, PROMPT_S, checkpoint, scratch, workflow

JOBS = 8
"""Prompts of a batch: even, so that two servers can share them."""

SIDE, STEPS = 64, 4


def cases() -> list[Case]:
    return [
        Case(
            "two hosts",  # as it stands in files of results
            f"a batch of {JOBS} txt2img prompts ({SIDE} pixels, {STEPS} steps, tiny UNet) on two "
            "servers of one thread, against one of them",
            _two_servers,
            NO_DTYPE,
            quick=True,
        )
    ]


class LastingServer:
    """A server that the end of a batch leaves running, for the next sample."""

    def __init__(self, server: BatchServer) -> None:
        self.name = server.name
        self._server = server

    def start(self) -> None:
        """It runs."""

    def run_prompt(
        self, prompt: Mapping[str, Any], files: Sequence[SentFile], timeout: float
    ) -> list[Output]:
        """As the server does."""
        return self._server.run_prompt(prompt, files, timeout)

    def stop(self) -> None:
        """It goes on."""


class ResultCounter:
    """Counts results; the pool's watcher."""

    def __init__(self) -> None:
        self.by_server: dict[str, int] = {}

    def keep(self, job: Job, outputs: Sequence[Output]) -> None:
        """Nothing is kept."""

    def done(self, job: Job, kept: None, server: str, tries: int) -> None:
        """Count one."""
        self.by_server[server] = self.by_server.get(server, 0) + 1

    def failed(self, attempt: Attempt) -> None:
        """Nothing may fail. Raises `RuntimeError`."""
        raise RuntimeError(attempt.errors[-1])

    def retried(self, job: Job, server: str, error: str) -> None:
        """Nothing may fail. Raises `RuntimeError`."""
        raise RuntimeError(error)

    def joined(self, server: str) -> None:
        """Is no matter of a measurement."""

    def left(self, server: str, error: str) -> None:
        """Nothing may fail. Raises `RuntimeError`."""
        raise RuntimeError(error)


@functools.cache
def _servers(settings: CaseSettings) -> tuple[LastingServer, LastingServer]:
    """Two servers of one thread that run as long as this process."""
    if settings.tree is None:
        raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
    if settings.device.type != "cpu":
        raise ValueError("This suite compares servers on the CPU: --device cpu.")
    base = prepare_base(scratch() / "batch", settings.tree)
    link_extension(base)
    path = checkpoint(_family(), settings.tree)
    (base / "models" / "checkpoints" / path.name).symlink_to(path)
    made = []
    for name in ("cpu", "cpu#2"):
        plan = ServerPlan(
            name,
            sys.executable,
            str(settings.tree),
            str(base),
            str(base / "input"),
            ("--cpu", "--disable-api-nodes"),
            "cpu",
            threads=1,
        )
        server = BatchServer(plan)
        DOWN.callback(server.stop)
        server.start()
        made.append(LastingServer(server))
    return made[0], made[1]


def _family() -> Family:
    return next(family for family in FAMILIES if family.name == "tiny")


def _jobs() -> list[Job]:
    made = []
    for number in range(JOBS):
        prompt = workflow(_family(), f"{_family().name}.safetensors")
        prompt["4"]["inputs"] |= {"width": SIDE, "height": SIDE}
        prompt["5"]["inputs"]["steps"] = STEPS
        prompt["7"]["class_type"] = "SaveImage"
        prompt["7"]["inputs"]["filename_prefix"] = "benchmark"
        made.append(Job(f"{number}", prompt))
    return made


def _seconds(members: Sequence[LastingServer]) -> tuple[float, dict[str, int]]:
    watcher = ResultCounter()
    new = [list(members)]
    pool = Pool(Board(_jobs(), 0), lambda: new.pop() if new else [], watcher, PROMPT_S)
    began = time.perf_counter()
    pool.run_jobs()
    taken = time.perf_counter() - began
    if sum(watcher.by_server.values()) != JOBS:
        raise RuntimeError(f"Only {watcher.by_server} of {JOBS} prompts were done.")
    return taken, watcher.by_server


def _two_servers(settings: CaseSettings) -> Trial:
    servers = _servers(settings)
    for server in servers:
        _seconds([server])  # loads the model
    last: dict[str, Any] = {}

    def both() -> float:
        taken, by_server = _seconds(servers)
        last["prompts by host"] = " and ".join(map(str, by_server.values()))
        return taken

    return Trial(
        Side("two hosts", both, self_timed=True),
        Side("one host", lambda: _seconds(servers[:1])[0], self_timed=True),
        facts=lambda: last,
    )
