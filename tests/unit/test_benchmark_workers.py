"""Benchmarks: a worker that dies, hangs or breaks off takes nothing else along."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from comfyui_ipex.benchmarks import conductor, record, table
from comfyui_ipex.benchmarks.conductor import Conductor, Plan
from comfyui_ipex.benchmarks.record import Record
from comfyui_ipex.benchmarks.result import Result

BEGINS = """
import json, os, signal, sys, time
print(json.dumps({"begin": ["tensor", "add 1 M", "cpu", "fp32"]}), flush=True)
"""


class Silent:
    """Shows nothing."""

    def begins(self, what: Sequence[str]) -> None:
        """Nothing."""

    def found(self, result: Result) -> None:
        """Nothing."""


def outcome(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """The record of a run whose only worker is `program`."""
    monkeypatch.setattr(
        conductor, "command", lambda job, emulate: [sys.executable, "-c", BEGINS + program]
    )
    kept = Record("a test", quick=True, passes=1)
    path = tmp_path / "kept.json"
    Conductor(Plan(table.named(["tensor"]), ("cpu",)), kept, path, Silent()).run()
    return record.load(path)


def test_a_worker_that_dies_leaves_its_case_as_a_failure_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = 'sys.stderr.write("the driver went away\\n"); sys.stderr.flush(); os._exit(3)'
    kept = outcome(program, tmp_path, monkeypatch)
    (failed,) = kept.results
    assert (failed.case, failed.status) == ("add 1 M", "failed")
    assert failed.why == "The worker ended with status 3: the driver went away"
    assert kept.complete


def test_half_a_line_of_a_killed_worker_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
sys.stdout.write('{"result": {"suite": "ten'); sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)"""
    (failed,) = outcome(program, tmp_path, monkeypatch).results
    assert failed.why.startswith("The worker ended with status -9")


def test_a_worker_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "SILENT_S", 1.0)
    (failed,) = outcome("time.sleep(600)", tmp_path, monkeypatch).results
    assert "told nothing for 1 s" in failed.why


def test_passes_of_all_suites_lie_apart() -> None:
    plan = Plan(table.named(["tensor", "conv"]), ("cpu", "cuda:0"), passes=2)
    order = [(job.suite, job.device) for job in plan.jobs()]
    assert order[:4] == order[4:]
    assert len(set(order[:4])) == 4
