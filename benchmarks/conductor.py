"""Has workers measure everything that was asked for, and keeps the file up to date."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..launcher.folders import child_environment
from ..xpu_runtime.report_data import without_paths
from .case import Suite
from .hosting import REPOSITORY
from .record import Record, now
from .result import FAILED, Result, from_json
from .worker import Job

PROGRAM = REPOSITORY / "ipex_benchmarks.py"

SILENT_S = 3600.0
"""A worker that tells nothing for so long is ended: a kernel may hang for ever.
A whole SDXL picture takes minutes on integrated graphics, and is made several times."""

LINES_KEPT = 200


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
    beginning: tuple[str, ...] = ("", "(all)", "", "-")
    printed: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Run everything. On whatever ends it early, the file holds what was measured."""
        self.record.save(self.path)
        try:
            for job in self.plan.jobs():
                self._one(job)
            self.record.complete = True
        finally:
            self.record.finished = now()
            self.record.save(self.path)

    def _one(self, job: Job) -> None:
        self.beginning = (job.suite, "(all)", job.device, "-")
        self.printed = []
        process = subprocess.Popen(
            command(job, self.plan.emulate),
            env=environment(self.plan.emulate),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        messages: queue.Queue[str] = queue.Queue()
        readers = [
            threading.Thread(target=_forward, args=(process.stdout, messages.put), daemon=True),
            threading.Thread(target=_forward, args=(process.stderr, self._print), daemon=True),
        ]
        for reader in readers:
            reader.start()
        finished = False
        try:
            while message := messages.get(timeout=SILENT_S):
                self._heard(job, json.loads(message))
            finished = True
        except json.JSONDecodeError:
            finished = True  # it died in the middle of a line, and its status says how
        except queue.Empty:
            self._failed(f"The worker told nothing for {SILENT_S:.0f} s and was ended.")
        finally:
            if not finished:
                process.terminate()
            _end(process)
        readers[1].join(timeout=5)
        if finished and process.returncode:
            last = [line for line in self.printed if line.strip()][-1:]
            why = f"The worker ended with status {process.returncode}: {''.join(last).strip()}"
            self._failed(why)

    def _print(self, line: str) -> None:
        self.printed = [*self.printed[-LINES_KEPT:], line]

    def _heard(self, job: Job, message: dict[str, Any]) -> None:
        if "begin" in message:
            self.beginning = tuple(message["begin"])
            self.show.begins(self.beginning)
        if "conditions" in message:
            self.record.add_conditions(job.suite, message["conditions"])
        if "load" in message:
            told = {"suite": job.suite, "device": job.device, "time": now(), **message["load"]}
            self.record.loads.append(told)
        if "result" in message:
            self.show.found(self.record.add(from_json(message["result"])))
            self.record.save(self.path)

    def _failed(self, why: str) -> None:
        """The case that had begun is a result that says what happened."""
        suite, case, device, dtype = self.beginning
        told = without_paths(why)
        result = Result(suite, case, device, dtype, "", "", FAILED, told)
        self.show.found(self.record.add(result))
        self.record.save(self.path)


def _forward(stream: Any, hand_on: Any) -> None:
    """Hand on each line, and at the end an empty one."""
    for line in stream:
        hand_on(line)
    hand_on("")


def _end(process: "subprocess.Popen[str]") -> None:
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
