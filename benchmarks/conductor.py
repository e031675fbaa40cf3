"""Has workers measure everything that was asked for, and keeps the file up to date."""

import contextlib
import json
import queue
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..launcher.folders import child_environment
from ..xpu_runtime.report_data import without_paths
from .case import Suite
from .child import Child
from .hosting import REPOSITORY
from .interruption import Interruption
from .record import Record, now
from .result import FAILED, Result, from_json
from .worker import Job

PROGRAM = REPOSITORY / "ipex_benchmarks.py"

SILENT_S = 3600.0
"""A worker that tells nothing for so long is ended: a kernel may hang for ever.
A whole SDXL picture takes minutes on integrated graphics, and is made several times."""

WORKERS = 4
"""How many workers a job may take: on a card that is lost, every one dies."""

ALL = "(all)"
"""Stands for a suite's cases where none of them is to blame."""


class Show(Protocol):
    """Who is told what happens."""

    def begins(self, what: Sequence[str]) -> None:
        """A case (suite, case, device, dtype) is being measured."""

    def found(self, result: Result) -> None:
        """A result stands, or stands anew."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    suites: Sequence[Suite]
    devices: Sequence[str]
    dtypes: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    quick: bool = False
    passes: int = 1
    tree: Path | None = None
    emulate: str = ""
    """The profile of an emulated card; then every worker sees that card and no other."""

    def jobs(self) -> list[Job]:
        """A worker each. The passes lie apart, so that each has other clocks and other load."""
        tree = None if self.tree is None else str(self.tree)
        once = [
            Job(suite.name, device, self.dtypes, self.cases, self.quick, tree)
            for suite in self.suites
            for device in self.devices
        ]
        return once * self.passes


@dataclass
class Conductor:
    """One run."""

    plan: Plan
    record: Record
    path: Path
    show: Show
    interruption: Interruption = field(default_factory=Interruption)
    beginning: tuple[str, ...] = ("", ALL, "", "-")
    begun: tuple[str, str] | None = None
    """The case and number format that the worker has begun last."""
    done: bool = False
    """Whether the worker has said that it is."""

    def run(self) -> None:
        """Run everything. On whatever ends it early, the file holds what was measured."""
        self.record.save(self.path)
        try:
            self.record.complete = all(self._one(job) for job in self.plan.jobs())
        finally:
            self.record.finished = now()
            self.record.save(self.path)

    def _one(self, job: Job) -> bool:
        """Do a job; False where it is not done because the run is to end.

        Where a worker dies in a case, another one goes on after it: a driver's crash must not take
        along what has nothing to do with it.
        """
        for _ in range(WORKERS):
            if self.interruption.asked:
                return False
            self.beginning, self.begun, self.done = (job.suite, ALL, job.device, "-"), None, False
            emulate = self.plan.emulate
            with Child(command(job, emulate), environment(emulate), self.interruption) as child:
                why = self._listen(job, child)
            if why:
                self._failed(why)
                return True
            if child.stopped or (self.done and (child.late or not child.status)):
                return self.done
            last = "".join([line for line in child.printed if line.strip()][-1:]).strip()
            self._failed(f"The worker ended with status {child.status}: {last}")
            if self.done or self.begun is None:
                return True
            job = replace(job, after=self.begun)
        return True

    def _listen(self, job: Job, child: Child) -> str:
        """Hear a worker until it has ended, or has to; why it has to, if nobody asked for it.

        One that is to end because the run is may have a result on its way, which is still heard.
        """
        while True:
            try:
                patience = child.left_s if child.stopped else SILENT_S
                message = child.messages.get(timeout=patience)
            except queue.Empty:
                if child.stopped:
                    child.kill()
                    return ""
                child.stop()
                return f"The worker told nothing for {SILENT_S:.0f} s and was ended."
            if self.interruption.hurried or not child.left_s:
                child.kill()
            elif message is None:
                child.stop()
            if message == "":
                return ""
            if message is not None:
                with contextlib.suppress(json.JSONDecodeError):  # it died in the middle of a line
                    self._heard(job, json.loads(message))

    def _heard(self, job: Job, message: dict[str, Any]) -> None:
        if "begin" in message:
            self.beginning = tuple(message["begin"])
            self.begun = (self.beginning[1], self.beginning[3])
            self.show.begins(self.beginning)
        if "conditions" in message:
            self.record.add_conditions(job.suite, message["conditions"])
        if "load" in message:
            told = {"suite": job.suite, "device": job.device, "time": now(), **message["load"]}
            self.record.loads.append(told)
        if "result" in message:
            self.show.found(self.record.add(from_json(message["result"])))
            self.record.save(self.path)
            self.beginning = (job.suite, ALL, job.device, "-")
        if "end" in message:
            self.done = True

    def _failed(self, why: str) -> None:
        """The case that had begun is a result that says what happened."""
        suite, case, device, dtype = self.beginning
        told = without_paths(why)
        result = Result(suite, case, device, dtype, "", "", FAILED, told)
        self.show.found(self.record.add(result))
        self.record.save(self.path)


def command(job: Job, emulate: str) -> list[str]:
    """How a worker is started."""
    emulator = ["-m", "xpu_emulator", "--device", emulate, "--"] if emulate else []
    return [sys.executable, *emulator, str(PROGRAM), "worker", job.text()]


def environment(emulate: str) -> dict[str, str]:
    """A worker's environment. An emulated card needs a process that sees no other."""
    kept = child_environment()
    if emulate:
        tests = str(REPOSITORY / "tests")
        kept |= {"PYTHONPATH": tests, "CUDA_VISIBLE_DEVICES": ""}
    return kept
