"""Fixtures: emulated XPUs in this process, or in a fresh one.

    pytest -p xpu_emulator.pytest_plugin

`emulated_xpu` is quick: torch is given its XPUs once, and each test gets other
cards. After the test no card is visible. `emulated_process` starts a new Python,
for tests that need an untouched torch or that end badly.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import xpu_emulator

if TYPE_CHECKING:
    from .control import EmulatedXpu

_PARENT = Path(__file__).parent.parent  # the folder from which xpu_emulator is imported


_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def emulator_figures(pytestconfig: pytest.Config) -> list[str]:
    """Give a list whose lines are shown in pytest's summary."""
    return pytestconfig.stash.setdefault(_FIGURES, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the figures that tests have collected."""
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("emulated XPU")
        for line in figures:
            terminalreporter.write_line(line)


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment in which ``python -m xpu_emulator`` is found."""
    environment = {**os.environ, **(extra or {})}
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{_PARENT}{os.pathsep}{path}" if path else str(_PARENT)
    return environment


def _forget_other_tests(count: int) -> None:
    """Free what earlier tests left in reference cycles: cards outlive them in this process."""
    import torch

    if any(torch.xpu.memory_allocated(index) for index in range(count)):
        gc.collect()


@pytest.fixture
def emulated_xpu() -> Iterator[Callable[..., EmulatedXpu]]:
    """Give a function that makes cards: ``emulated_xpu(["a770"], async_copies=True)``.

    Its arguments are those of EmulatedXpu.configure: devices (names of profiles,
    profiles or DeviceSpecs) and fields of Options. It returns the EmulatedXpu.
    """

    def make(
        devices: Iterable[xpu_emulator.DeviceRequest] = ("a770",), **options: Any
    ) -> EmulatedXpu:
        if not xpu_emulator.is_installed():
            xpu_emulator.install([])
        emulated = xpu_emulator.current()
        emulated.configure(devices, **options)
        _forget_other_tests(len(emulated.devices))
        return emulated

    yield make
    if xpu_emulator.is_installed():
        xpu_emulator.current().configure([])


@dataclasses.dataclass(frozen=True)
class ProcessResult:
    """What a child process said, and the emulator's report of it (empty without torch)."""

    returncode: int
    stdout: str
    stderr: str
    report: dict[str, Any]


@pytest.fixture
def emulated_process(tmp_path: Path) -> Callable[..., ProcessResult]:
    """Give a function that runs a program under ``python -m xpu_emulator``.

    ``emulated_process(["--device", "b580"], ["-c", "import torch"])`` waits for it,
    at most `timeout` seconds. `env` adds to the environment.
    """

    def run(
        options: Sequence[str],
        program: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> ProcessResult:
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "xpu_emulator", "--report", str(report)]
        done = subprocess.run(
            [*command, *options, "--", *program],
            env=child_environment(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        content = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        return ProcessResult(done.returncode, done.stdout, done.stderr, content)

    return run
