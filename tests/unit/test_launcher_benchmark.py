"""`./comfyui-ipex benchmark`: what is the launcher's, and what goes to the benchmark."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex.launcher import benchmark, cli
from comfyui_ipex.launcher.choice import DeviceDecision
from comfyui_ipex.launcher.environment import Environment
from comfyui_ipex.launcher.hosts import HostTree
from comfyui_ipex.launcher.installation import PreparedHost


@pytest.fixture
def installation(tmp_path: Path) -> PreparedHost:
    """A host that is set up."""
    tree = HostTree(tmp_path / "tree", "0.3.47", "0.3.47", "a test", False)
    decision = DeviceDecision("xpu:0", "a test", (), "xpu:0")
    return PreparedHost(Environment(tmp_path / "venv"), tree, None, decision)


def test_all_but_the_host_version_goes_to_the_benchmark() -> None:
    given = ["--host", "0.3.52", "--device", "cpu,xpu:0", "--quick", "--output", "mine"]
    own, rest = benchmark.own_arguments(given)
    assert own.host == "0.3.52"
    assert rest == ["--device", "cpu,xpu:0", "--quick", "--output", "mine"]
    assert cli.requested_device(own) == "auto"


def test_the_benchmark_is_told_where_comfyui_is(installation: PreparedHost) -> None:
    command = benchmark.build_command(installation, ["--quick"])
    assert command[1:] == [
        str(benchmark.PROGRAM), "--quick", "--tree", str(installation.tree.path)
    ]  # fmt: skip
    assert benchmark.PROGRAM.exists()


def test_comparing_files_needs_no_comfyui(installation: PreparedHost) -> None:
    command = benchmark.build_command(installation, ["compare", "A.json", "B.json"])
    assert command[2:] == ["compare", "A.json", "B.json"]


def test_the_launcher_sets_up_a_host_without_a_worker_and_answers_with_the_benchmarks_status(
    installation: PreparedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def set_up(version: str, request: str, environ: Any, worker: str) -> PreparedHost:
        asked.append((version, request, worker))
        return installation

    monkeypatch.setattr(cli, "set_up", set_up)
    monkeypatch.setattr(cli, "run_benchmarks", lambda _, arguments: len(arguments))
    kept = signal.getsignal(signal.SIGTERM)
    try:
        assert cli.main(["benchmark", "--host", "0.3.52", "--quick"]) == 1
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert asked == [("0.3.52", "auto", "")]


@pytest.fixture
def program(installation: PreparedHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What stands for the benchmark, in an environment that needs no set-up."""
    chosen: list[str] = []
    monkeypatch.setattr(Environment, "install", lambda *_: None)
    monkeypatch.setattr(benchmark, "build_command", lambda *_: [sys.executable, "-c", *chosen])
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield chosen
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_benchmark_is_waited_for_until_it_has_written_what_it_has(
    installation: PreparedHost, program: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    written = tmp_path / "written"
    program.append(f"""
import os, pathlib, signal, sys, time
def end(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill({os.getpid()}, {int(number)})  # an impatient user
    time.sleep(0.3)
    pathlib.Path({str(written)!r}).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
os.kill({os.getpid()}, {int(number)})
time.sleep(60)
""")
    assert benchmark.run_benchmarks(installation, []) == 143
    assert written.exists()


def test_an_interrupt_while_the_benchmark_is_being_started_ends_it(
    installation: PreparedHost, program: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program.append("import time; time.sleep(60)")
    start = subprocess.Popen

    def interrupted(*arguments: Any, **named: Any) -> Any:
        started = start(*arguments, **named)
        os.kill(os.getpid(), signal.SIGINT)
        return started

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    assert benchmark.run_benchmarks(installation, []) == 128 + signal.SIGTERM
