"""Calls to a worker that are fetched later. Threads stand in for the worker's process here."""

import contextlib
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from comfyui_ipex.benchmarks.suites import workers as suite
from comfyui_ipex.xpu_runtime import host, workers
from comfyui_ipex.xpu_runtime.worker_plan import WorkerPlan
from comfyui_ipex.xpu_runtime.workers import process, serving
from comfyui_ipex.xpu_runtime.workers.channel import Channel

LOST_TEXT = "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)"


class StoppedError(Exception):
    """Stands for the host's interruption."""


class WorkerInThreads(process.WorkerProcess):
    """A worker whose process is this one: the real `Serving` and channels, in threads."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.description = {"pid": os.getpid(), "torch": "", "devices": []}
        self.answers = {}
        self._calls = self._questions = 0
        self._unwanted: dict[int, float] = {}
        self._replies: dict[int, Any] = {}
        self._asking = threading.Lock()
        self._lines: Any = ["the last line"]
        self.status: int | None = None
        self._child: Any = self
        self.serving = serving.Serving({"kind": "cpu", "arguments": {}, "folders": {}})
        (ours, theirs), (control, answers) = multiprocessing.Pipe(), multiprocessing.Pipe()
        self._channel, self._control = Channel(ours, self.advance), control
        self.theirs = (theirs, answers)
        threading.Thread(target=self.serving.serve, args=self.theirs, daemon=True).start()

    def wait(self, seconds: float) -> int | None:
        """Of `Child`."""
        return self.status

    def kill(self) -> None:
        """The process is gone, and the kernel has closed its connections."""
        self.status = -9
        for connection in self.theirs:
            with contextlib.suppress(OSError):
                socket.socket(fileno=os.dup(connection.fileno())).shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Of `Child`."""


GATE = threading.Event()
"""What `slow` waits for."""

CALLS: list[str] = []


def slow(name: str) -> str:
    """A call that lasts until `GATE` is open or it is stopped."""
    CALLS.append(name)
    while not GATE.wait(0.01):
        host.check_interrupted()
    return name


def quick(name: str) -> str:
    """A call."""
    CALLS.append(name)
    return name


def loses_its_card(name: str) -> str:
    """A call whose first attempt meets a card that was reset."""
    CALLS.append(name)
    if CALLS.count(name) < 2:
        raise RuntimeError(LOST_TEXT)
    return name


def always_loses_its_card() -> None:
    """A call that no card survives."""
    raise RuntimeError(LOST_TEXT)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[workers.Worker]:
    """A worker that was started."""
    flag = threading.Event()

    def check_interrupted() -> None:
        # Of the worker's process alone: this one has no host.
        if threading.current_thread() is not threading.main_thread() and flag.is_set():
            raise StoppedError

    def nothing(*_: Any, **__: Any) -> None:
        return None

    silent = ("take_arguments", "load_model_management", "use_model_folders", "watch_progress")
    for name in (*silent, "forget_unused_models"):
        monkeypatch.setattr(host, name, nothing)
    monkeypatch.setattr(host, "check_interrupted", check_interrupted)
    monkeypatch.setattr(host, "interrupt", flag.set)
    monkeypatch.setattr(host, "forget_interruption", flag.clear)
    monkeypatch.setattr(host, "interruption", StoppedError)
    monkeypatch.setattr(host, "is_interruption", lambda error: isinstance(error, StoppedError))
    monkeypatch.setattr(serving.prestart, "prepare", nothing)
    monkeypatch.setattr(serving.runtime, "start", nothing)
    made = workers.Worker(WorkerPlan("worker", "cpu", ("python",)))
    monkeypatch.setattr(made, "_new_process", lambda: WorkerInThreads(next(made._lives)))
    GATE.clear()
    CALLS.clear()
    made.start()
    yield made
    GATE.set()


def until(what: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 30
    while not what() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert what()


def test_calls_that_are_begun_run_in_their_order_while_this_process_goes_on(
    worker: workers.Worker,
) -> None:
    first, second = worker.begin(slow, "one"), worker.begin(slow, "two")
    until(lambda: CALLS == ["one"])
    assert not first.is_there()
    GATE.set()
    assert (second.result(), first.result()) == ("two", "one")
    assert CALLS == ["one", "two"]


def test_calls_that_are_abandoned_end_and_the_next_one_is_not_stopped(
    worker: workers.Worker,
) -> None:
    running, waiting = worker.begin(slow, "one"), worker.begin(slow, "two")
    until(lambda: CALLS == ["one"])
    waiting.abandon()
    running.abandon()
    assert worker.call(quick, "three") == "three"
    assert CALLS == ["one", "three"]
    running.abandon()  # once more is nothing


def test_calls_that_a_worker_took_to_its_death_are_repeated_once(
    worker: workers.Worker, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [worker.begin(slow, name) for name in ("one", "two")]
    kept = workers.Resident(worker, quick, "kept")
    worker._process.kill()
    assert [call.is_there() for call in calls] == [True, True]
    GATE.set()
    assert [call.result() for call in calls] == ["one", "two"]
    assert caplog.text.count("It is started again") == 2
    assert worker.call(quick, kept) == "kept"


def test_a_call_is_begun_although_the_worker_has_died_unseen(worker: workers.Worker) -> None:
    worker.abandoned.append("a key")  # so that something is asked before the call
    worker._process.kill()
    GATE.set()
    call = worker.begin(slow, "one")
    assert call.is_there()
    assert call.result() == "one"


def test_a_card_that_was_reset_needs_a_new_process(worker: workers.Worker) -> None:
    before = worker._process
    assert worker.call(loses_its_card, "one") == "one"
    assert worker._process is not before
    assert before.status == -9
    with pytest.raises(workers.WorkerError, match=r"ended twice.*its device was lost"):
        worker.call(always_loses_its_card)
    assert worker.call(quick, "two") == "two"


def test_what_nobody_needs_is_forgotten_without_waiting_for_what_is_computed(
    worker: workers.Worker,
) -> None:
    kept = workers.Resident(worker, quick, "kept")
    assert worker.call(quick, kept) == "kept"
    first = worker.begin(slow, "one")
    del kept
    second = worker.begin(slow, "two")  # would wait for ever
    GATE.set()
    assert (first.result(), second.result()) == ("one", "two")
    until(lambda: worker._process.serving._kept == {})


def test_the_suite_of_workers_tells_how_both_processes_grow(
    worker: workers.Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "_worker", lambda: (worker, 1.0))
    monkeypatch.setattr(suite, "_GROWTH_CALLS", 2)
    looks = iter([100.0, 50.0, 101.04, 50.0])
    monkeypatch.setattr(suite, "private_mib", lambda process: next(looks))
    place = SimpleNamespace(tree="tree")
    found = suite._call(suite.QUICK[-1], place).facts()  # type: ignore[arg-type, misc]
    assert found == {"worker ready after s": 1.0, "host grew MiB": 1.0, "worker grew MiB": 0.0}
