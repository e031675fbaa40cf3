"""Has bench processes measure everything that was asked for, and keeps the file up to date."""

import contextlib
import json
import queue
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..launcher.folders import child_environment
from ..xpu_runtime.report import without_paths
from .bench_process import BenchProcess, Interruption
from .case import BenchmarkSuite
from .hosting import REPOSITORY
from .measuring import BenchRequest
from .record import Record, now
from .result import FAILED, CaseResult, from_json

PROGRAM = REPOSITORY / "ipex_benchmarks.py"

SILENT_S = 3600.0
"""A bench process that tells nothing for so long is ended: a kernel may hang for ever.
A whole SDXL picture takes minutes on integrated graphics, and is made several times."""

MOST_PROCESSES = 4
"""How many bench processes a request may take: on a card that is lost, every one dies."""

ALL = "(all)"
"""Stands for a suite's cases where none of them is to blame."""


class Show(Protocol):
    """Who is told what happens."""

    def begins(self, what: Sequence[str]) -> None:
        """A case (suite, case, device, dtype) is being measured."""

    def found(self, result: CaseResult) -> None:
        """A result stands, or stands anew."""


@dataclass(frozen=True)
class BenchPlan:
    suites: Sequence[BenchmarkSuite]
    devices: Sequence[str]
    dtypes: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    quick: bool = False
    passes: int = 1
    tree: Path | None = None
    emulate: str = ""
    """The profile of an emulated card; then every bench process sees that card and no other."""

    def requests(self) -> list[BenchRequest]:
        """One a bench process. The passes lie apart: each has other clocks and other load."""
        tree = None if self.tree is None else str(self.tree)
        once = [
            BenchRequest(suite.name, device, self.dtypes, self.cases, self.quick, tree)
            for suite in self.suites
            for device in self.devices
        ]
        return once * self.passes


@dataclass
class Conductor:
    plan: BenchPlan
    record: Record
    path: Path
    show: Show
    interruption: Interruption = field(default_factory=Interruption)
    beginning: tuple[str, ...] = ("", ALL, "", "-")
    begun: tuple[str, str] | None = None
    """The case and number format that the bench process has begun last."""
    done: bool = False
    """Whether the bench process has said that it is."""

    def measure_all(self) -> None:
        """Run everything. On whatever ends it early, the file holds what was measured."""
        self.record.save(self.path)
        try:
            self.record.complete = all(self._answer(request) for request in self.plan.requests())
        finally:
            self.record.finished = now()
            self.record.save(self.path)

    def _answer(self, request: BenchRequest) -> bool:
        """Measure; False where that is not done because the run is to end.

        Where a bench process dies in a case, another one goes on after it: a driver's crash must
        not take along what has nothing to do with it.
        """
        for _ in range(MOST_PROCESSES):
            if self.interruption.asked:
                return False
            self.beginning = (request.suite, ALL, request.device, "-")
            self.begun, self.done = None, False
            emulate = self.plan.emulate
            with BenchProcess(
                command(request, emulate), environment(emulate), self.interruption
            ) as process:
                why = self._listen(request, process)
            if why:
                self._failed(why)
                return True
            if process.stopped or (self.done and (process.late or not process.status)):
                return self.done
            last = "".join([line for line in process.printed if line.strip()][-1:]).strip()
            self._failed(f"The bench process ended with status {process.status}: {last}")
            if self.done or self.begun is None:
                return True
            request = replace(request, after=self.begun)
        return True

    def _listen(self, request: BenchRequest, process: BenchProcess) -> str:
        """Hear a bench process until it has ended, or must; why it must, if nobody asked for it.

        One that is to end because the run is may have a result on its way, which is still heard.
        """
        while True:
            try:
                patience = process.left_s if process.stopped else SILENT_S
                message = process.messages.get(timeout=patience)
            except queue.Empty:
                if process.stopped:
                    process.kill()
                    return ""
                process.stop()
                return f"The bench process told nothing for {SILENT_S:.0f} s and was ended."
            if self.interruption.hurried or not process.left_s:
                process.kill()
            elif message is None:
                process.stop()
            if message == "":
                return ""
            if message is not None:
                with contextlib.suppress(json.JSONDecodeError):  # it died in the middle of a line
                    self._heard(request, json.loads(message))

    def _heard(self, request: BenchRequest, message: dict[str, Any]) -> None:
        if "begin" in message:
            self.beginning = tuple(message["begin"])
            self.begun = (self.beginning[1], self.beginning[3])
            self.show.begins(self.beginning)
        if "conditions" in message:
            self.record.add_conditions(request.suite, message["conditions"])
        if "load" in message:
            seen = {"suite": request.suite, "device": request.device, "time": now()}
            self.record.loads.append({**seen, **message["load"]})
        if "result" in message:
            self.show.found(self.record.add(from_json(message["result"])))
            self.record.save(self.path)
            self.beginning = (request.suite, ALL, request.device, "-")
        if "end" in message:
            self.done = True

    def _failed(self, why: str) -> None:
        """The case that had begun is a result that says what happened."""
        suite, case, device, dtype = self.beginning
        told = without_paths(why)
        result = CaseResult(suite, case, device, dtype, "", "", FAILED, told)
        self.show.found(self.record.add(result))
        self.record.save(self.path)


def command(request: BenchRequest, emulate: str) -> list[str]:
    emulator = ["-m", "xpu_emulator", "--device", emulate, "--"] if emulate else []
    return [sys.executable, *emulator, str(PROGRAM), "bench-process", request.text()]


def environment(emulate: str) -> dict[str, str]:
    """A bench process's environment. An emulated card needs a process that sees no other."""
    kept = child_environment()
    if emulate:
        tests = str(REPOSITORY / "tests")
        kept |= {"PYTHONPATH": tests, "CUDA_VISIBLE_DEVICES": ""}
    return kept
