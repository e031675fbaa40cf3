"""A results file: valid after every case, whatever ends the run. `schema.json` describes it."""

import datetime
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..xpu_runtime import VERSION
from .intervals import CONFIDENCE, TARGET
from .result import CaseResult, as_json, from_json, merged

FORMAT = 1
SCHEMA = Path(__file__).with_name("schema.json")


class RecordError(ValueError):
    """A file that is no results file of this format."""


def now() -> str:
    """The time in UTC, without fractions of seconds."""
    return datetime.datetime.now(tz=datetime.timezone.utc).isoformat(timespec="seconds")


@dataclass
class Record:
    """Everything that one command measured."""

    command: str
    quick: bool
    passes: int
    started: str = field(default_factory=now)
    finished: str | None = None
    complete: bool = False
    conditions: list[dict[str, Any]] = field(default_factory=list)
    loads: list[dict[str, Any]] = field(default_factory=list)
    results: list[CaseResult] = field(default_factory=list)

    def add(self, result: CaseResult) -> CaseResult:
        """Take up a result, together with what an earlier pass gave; returns what stands now."""
        for index, known in enumerate(self.results):
            if known.key == result.key:
                self.results[index] = merged(known, result)
                return self.results[index]
        self.results.append(result)
        return result

    def add_conditions(self, suite: str, found: Mapping[str, Any]) -> None:
        """Add a bench process's conditions; equal ones once, with all suites that had them."""
        for known in self.conditions:
            if {**known, "suites": None} == {**found, "suites": None}:
                known["suites"] = sorted({*known["suites"], suite})
                return
        self.conditions.append({**found, "suites": [suite]})

    def document(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "program": {"name": "comfyui-ipex", "version": VERSION},
            "command": self.command,
            "started": self.started,
            "finished": self.finished,
            "complete": self.complete,
            "method": {
                "quick": self.quick,
                "passes": self.passes,
                "confidence": CONFIDENCE,
                "target_width": TARGET,
            },
            "conditions": self.conditions,
            "loads": self.loads,
            "results": [as_json(result) for result in self.results],
        }

    def save(self, path: Path) -> None:
        """Write the file in one step: whoever reads it sees this state or the one before."""
        text = json.dumps(self.document(), indent=1, allow_nan=False) + "\n"
        write_at_once(path, text)


def write_at_once(path: Path, text: str) -> None:
    """Write a text file so that it never is half written. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        # An interrupt may come just after the draft took its settings.
        Path(draft).unlink(missing_ok=True)
        raise


def load(path: Path) -> Record:
    """The record in a file. Raises `OSError`, or `RecordError` if it is none of this format."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise RecordError(f"{path} has format {data['format']}; this version reads {FORMAT}.")
        return _of(data)
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise RecordError(f"{path} is no file of ipex-benchmarks: {error}.") from error


def _of(data: Mapping[str, Any]) -> Record:
    results: Iterable[Mapping[str, Any]] = data["results"]
    return Record(
        command=data["command"],
        quick=data["method"]["quick"],
        passes=data["method"]["passes"],
        started=data["started"],
        finished=data["finished"],
        complete=data["complete"],
        conditions=list(data["conditions"]),
        loads=list(data["loads"]),
        results=[from_json(result) for result in results],
    )
