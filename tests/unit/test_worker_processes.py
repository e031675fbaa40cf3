"""The transport of workers with real processes: shared memory, the key, and every kind of end."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import lone_workers
import processes
import pytest
import torch
from comfyui_ipex.xpu_runtime import host, workers
from comfyui_ipex.xpu_runtime.workers import bootstrap, channel, wire
from comfyui_ipex.xpu_runtime.workers.channel import Channel
from conftest import REPOSITORY

END_SECONDS = 30.0

LARGE = 5 * channel.BLOCK_BYTES + 5
"""Bytes: more than all blocks of one direction."""


class StoppedError(Exception):
    """Stands for the host's interruption."""


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This extension, with workers that do without a host."""
    return lone_workers.make_extension(tmp_path_factory.mktemp("extension"))


@pytest.fixture(scope="module", autouse=True)
def temporary(extension: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where temporary folders are made. No host is asked about anything meanwhile."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        lone_workers.do_without_host(patch, extension)
        yield folder


@pytest.fixture(scope="module")
def only_worker(temporary: Path) -> Iterator[workers.Worker]:
    """One for this module. When it is stopped nothing of it is left."""
    before = blocks()
    made = lone_workers.lone_worker()
    yield made
    made.stop()
    assert blocks() <= before
    assert list(temporary.iterdir()) == []


@pytest.fixture
def worker(only_worker: workers.Worker) -> workers.Worker:
    """It runs."""
    only_worker.start()
    return only_worker


@pytest.fixture
def fresh(only_worker: workers.Worker) -> workers.Worker:
    """It runs, and this process has no blocks for it yet."""
    only_worker.stop()
    only_worker.start()
    return only_worker


def blocks() -> set[str]:
    """The names of blocks of shared memory."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(channel.PREFIX)}


def large() -> torch.Tensor:
    return torch.arange(251, dtype=torch.uint8).repeat(LARGE // 251 + 1)[:LARGE]


def stop_oneself() -> None:
    """For the module `os`: no thread of the worker runs any more.

    The signal reaches this thread a little later, so that it waits for what never comes.
    """
    kill(getpid(), 19)  # type: ignore[name-defined]  # noqa: F821
    ends = pipe()  # type: ignore[name-defined]  # noqa: F821
    read(ends[0], 1)  # type: ignore[name-defined]  # noqa: F821


PROMPT_SECONDS = 5.0
"""Half a second on a machine that is not busy; a worker that hangs is waited for for 30."""

HANG = lone_workers.sent_by_value(stop_oneself, os)

SLEEP = lone_workers.sent_by_value(lone_workers.sleep_long, time)


def no_room(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_large_tensors_cross_both_ways_in_blocks_that_have_no_name_afterwards(
    worker: workers.Worker,
) -> None:
    before = blocks()
    sent = {"one": large(), "two": [torch.ones(3, 5).t(), large().view(5, -1)[1]]}
    for _ in range(2):
        found = worker.call(wire.itself, sent)
        assert found["one"].equal(sent["one"])
        assert all(one.equal(two) for one, two in zip(found["two"], sent["two"], strict=True))
        assert blocks() == before


@pytest.mark.parametrize("free", [0, 1], ids=["no block", "one block"])
def test_where_shared_memory_is_full_tensors_cross_all_the_same(
    fresh: workers.Worker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    free: int,
) -> None:
    calls: list[Any] = []
    reserve = os.posix_fallocate

    def fallocate(*arguments: Any) -> None:
        calls.append(arguments)
        (reserve if len(calls) <= free else no_room)(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    for _ in range(2):
        assert fresh.call(wire.itself, large()).equal(large())
    assert len(calls) == free + 2
    assert caplog.text.count("there is no shared memory") == (0 if free else 1)


@pytest.mark.parametrize("method", ["_send", "_take_part"], ids=["on its way", "coming back"])
def test_a_worker_that_is_killed_while_a_tensor_crosses_is_replaced_and_leaves_no_block(
    worker: workers.Worker, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    killed: list[int | None] = []
    original = getattr(Channel, method)

    def kill_once(self: Channel, *arguments: Any) -> None:
        if not killed and (method == "_take_part" or arguments[0] == "part"):
            killed.append(worker.process)
            os.kill(worker.process or 0, signal.SIGKILL)
        original(self, *arguments)

    monkeypatch.setattr(Channel, method, kill_once)
    assert worker.call(wire.itself, large()).equal(large())
    assert worker.process not in killed


def test_whoever_does_not_know_the_key_is_refused_and_nothing_listens_after_the_host_came(
    extension: Path, tmp_path: Path
) -> None:
    address = str(tmp_path / "socket")
    orders = {"address": address, "key": "11" * 32, "extension": str(extension)}
    (tmp_path / bootstrap.ORDERS).write_text(json.dumps({**orders, "tree": str(extension)}))
    program = [sys.executable, str(bootstrap.__file__), str(tmp_path)]
    with subprocess.Popen(program, stdin=subprocess.DEVNULL) as started:
        try:
            with pytest.raises(AuthenticationError):
                _connected(address, bytes(32))
            assert not (tmp_path / bootstrap.ORDERS).exists()
            calls, control = (_connected(address, b"\x11" * 32) for _ in range(2))
            control.send({"kind": "cpu", "arguments": {}, "folders": {}})
            assert control.recv()[0] is True
            with pytest.raises(FileNotFoundError):
                Client(address, authkey=b"\x11" * 32)
            calls.close()
            control.close()
            assert started.wait(END_SECONDS) == 0
        finally:
            started.kill()


def _connected(address: str, key: bytes) -> Connection:
    deadline = time.monotonic() + END_SECONDS
    while True:
        try:
            connection: Connection = Client(address, authkey=key)
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_key_is_in_no_command_line_and_no_environment(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    write = Path.write_text

    def note(self: Path, text: str, **named: Any) -> int:
        keys.append(json.loads(text)["key"])
        assert self.parent.stat().st_mode & 0o077 == 0
        return write(self, text, **named)

    monkeypatch.setattr(Path, "write_text", note)
    made = lone_workers.lone_worker()
    made.start()
    for entry in (Path(f"/proc/{made.process}"), Path("/proc/self")):
        for name in ("cmdline", "environ"):
            assert keys[0].encode() not in (entry / name).read_bytes()
    assert not list(temporary.rglob(bootstrap.ORDERS))
    made.stop()
    assert len(keys) == 1


@pytest.mark.parametrize("function", [HANG, SLEEP], ids=["stopped", "computing"])
def test_a_user_who_cancels_waits_for_no_worker_that_hangs(
    worker: workers.Worker, monkeypatch: pytest.MonkeyPatch, function: Any
) -> None:
    cancelled: list[float] = []

    def check_interrupted() -> None:
        if cancelled:
            raise StoppedError

    monkeypatch.setattr(host, "check_interrupted", check_interrupted)
    threading.Timer(1.0, lambda: cancelled.append(time.monotonic())).start()
    with pytest.raises(StoppedError):
        worker.call(function)
    assert time.monotonic() - cancelled[0] < PROMPT_SECONDS
    cancelled.clear()
    monkeypatch.setattr("comfyui_ipex.xpu_runtime.workers.worker.STOP_SECONDS", 0.5)
    assert worker.call(wire.itself, 7) == 7  # a new one: the old one does not stop


def test_a_worker_that_is_stopped_while_a_tensor_goes_there_holds_up_no_user(
    worker: workers.Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_interrupted() -> None:
        if cancelled:
            raise StoppedError

    cancelled: list[float] = []
    monkeypatch.setattr(host, "check_interrupted", check_interrupted)
    sent = large()
    os.kill(worker.process or 0, signal.SIGSTOP)
    threading.Timer(2.0, lambda: cancelled.append(time.monotonic())).start()
    with pytest.raises(StoppedError):
        worker.call(wire.itself, sent)
    assert time.monotonic() - cancelled[0] < PROMPT_SECONDS


def test_a_worker_that_cannot_start_says_at_once_why_and_what_it_wrote_last(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(workers.WorkerError, match=r"could not be started: There is no such card\."):
        lone_workers.lone_worker("cuda").start()
    monkeypatch.setattr("comfyui_ipex.xpu_runtime.workers.process.EXTENSION", temporary)
    began = time.monotonic()
    with pytest.raises(workers.WorkerError, match="No module named 'comfyui_ipex_worker"):
        lone_workers.lone_worker().start()
    assert time.monotonic() - began < END_SECONDS
    assert not list(temporary.rglob(bootstrap.ORDERS))


def test_what_a_worker_wrote_last_stands_in_the_error_when_it_dies(
    worker: workers.Worker, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(worker.process or 0, signal.SIGKILL)
    assert worker.call(wire.itself, 7) == 7
    assert re.search(r"its process died: killed.*The worker says hello", caplog.text)


def test_nothing_is_left_when_the_parent_is_killed_while_the_worker_computes(
    extension: Path, tmp_path: Path
) -> None:
    before = blocks()
    program = [sys.executable, str(REPOSITORY / "tests" / "lone_workers.py"), str(extension)]
    start = (
        "import sys, runpy; sys.path.insert(0, sys.argv[1]); import conftest; "
        "sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", start, str(REPOSITORY / "tests"), *program[1:]]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        folders = list(tmp_path.glob(f"{channel.PREFIX}*"))
        assert len(folders) == 1
        started = processes.of_folder(str(folders[0]))
        assert worker in started
        assert processes.listening_elsewhere(list(started)) == []
        parent.kill()
    assert processes.gone(str(folders[0]), END_SECONDS) == {}
    assert not Path(f"/proc/{worker}").exists()
    assert not folders[0].exists()
    assert blocks() <= before
