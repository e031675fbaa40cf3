"""`./comfyui-ipex batch` and `node`: refused early, or run in the environment that was set up."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex.batch import launch
from comfyui_ipex.launcher.errors import SetupError

WAIT_SECONDS = 30.0

PROGRAM = """
import signal, sys, time
open(sys.argv[1], "w").write(" ".join(sys.argv[2:]))
if "wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    open(sys.argv[1] + ".waits", "w").close()
    time.sleep(600)
sys.exit(7)
"""


class Environment:
    """An environment that is there already."""

    def __init__(self) -> None:
        self.python = Path(sys.executable)
        self.clusters: list[Path] = []

    def install_cluster(self, tree: Path) -> None:
        self.clusters.append(tree)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """What the launcher sets up; the program writes down its arguments."""
    made = Environment()
    tree = type("Tree", (), {"path": tmp_path / "tree"})()
    installation: Any = type("PreparedHost", (), {"environment": made, "tree": tree})()
    monkeypatch.setattr(launch, "set_up", lambda version, request, environ: installation)
    (tmp_path / "program.py").write_text(PROGRAM)
    started = launch.run_program

    def start(command: list[str]) -> int:
        assert command[:2] == [sys.executable, str(launch.PROGRAM)]
        program = [str(tmp_path / "program.py"), str(tmp_path / "said")]
        return started([sys.executable, *program, *command[2:]])

    monkeypatch.setattr(launch, "run_program", start)
    before = signal.getsignal(signal.SIGTERM)
    yield made
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "options",
    [
        ["batch"],
        ["batch", "w.json"],
        ["batch", "w.json", "--table", "a.csv", "--frames", "b"],
        ["batch", "w.json", "--table", "a.csv", "--retries", "many"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused_before_anything_is_set_up(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_up(*_: object) -> None:
        raise AssertionError("set up")

    monkeypatch.setattr(launch, "set_up", set_up)
    with pytest.raises(SystemExit) as caught:
        launch.main(options)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("options", "ray"),
    [
        (["batch", "w.json", "--table", "a.csv", "--lowvram"], False),
        (["batch", "w.json", "--table", "a.csv", "--address", "10.0.0.1:1"], True),
        (["node", "--head"], True),
    ],
    ids=["here", "cluster", "node"],
)
def test_the_task_runs_in_the_environment_with_its_options_and_ray_only_for_a_cluster(
    environment: Environment, tmp_path: Path, options: list[str], ray: bool
) -> None:
    assert launch.main(options) == 7
    assert (tmp_path / "said").read_text() == " ".join(options)
    assert bool(environment.clusters) == ray


def test_a_set_up_that_fails_is_told_and_nothing_runs(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def set_up(*_: object) -> None:
        raise SetupError("no disk")

    monkeypatch.setattr(launch, "set_up", set_up)
    assert launch.main(["node", "--head"]) == 1
    assert "no disk" in capsys.readouterr().err


def test_being_told_to_end_reaches_the_task(environment: Environment, tmp_path: Path) -> None:
    waits = tmp_path / "said.waits"

    def end() -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not waits.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    assert launch.main(["batch", "w.json", "--table", "a.csv", "wait"]) == 130
    thread.join()
