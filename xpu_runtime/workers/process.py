"""A worker's process, from its start to its end, and the two connections to it."""

import collections
import json
import os
import platform
import secrets
import shlex
import subprocess
import tempfile
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import Any

from .. import host
from ..log import LOGGER
from ..processes.child import Child
from ..worker_plan import SETTING, WorkerPlan
from . import bootstrap
from .channel import Channel, Message
from .errors import WorkerError, WorkerGoneError, reason_of_end

EXTENSION = Path(__file__).resolve().parents[2]

CHECK_SECONDS = 60.0

START_SECONDS = 180.0

POLL_SECONDS = 0.2
"""How often to look whether the user has stopped, and how far a call is."""

LOOK_SECONDS = 0.02
"""How often to look whether a process that was just started listens."""

END_SECONDS = 1.0

STATUS_SECONDS = 2.0
"""How long to wait for the status of a process that has closed its connection."""

LINES = 8
"""How many of the last lines that a worker wrote belong into an error."""

# What an interpreter is asked before it is started as a worker.
_ASKED = """
import importlib.util, json, platform
torch = importlib.util.find_spec("torch") is not None
print(json.dumps({"python": platform.python_version(), "torch": torch}))
"""


class WorkerProcess:
    """One process. It ends with this one, however this one ends (`Child`).

    Everything but `ask` and `reply` is for one thread at a time.
    """

    def __init__(self, plan: WorkerPlan, number: int) -> None:
        """Starts it, and returns when it has told its devices. `number`: of this start.

        Raises `WorkerGoneError` with the reason if it does not, and the host's interruption.
        """
        self.number = number
        self.description: dict[str, Any] = {}
        self.answers: dict[int, tuple[bool, Message]] = {}
        """What has come and was not fetched yet: whether the call went well, and its answer."""
        self._calls = 0
        self._unwanted: dict[int, float] = {}
        """Calls whose answer nobody waits for, and since when."""
        self._questions = 0
        self._replies: dict[int, Any] = {}
        self._asking = threading.Lock()
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES)
        self._channel: Channel | None = None
        self._control: Connection | None = None
        folder = Path(tempfile.mkdtemp(prefix="comfyui-ipex-"))
        address = rf"\\.\pipe\{folder.name}" if os.name == "nt" else str(folder / "socket")
        key = secrets.token_bytes(32)
        _write_orders(folder, address, key)
        command = [*plan.command, bootstrap.__file__, str(folder)]
        try:
            self._child = Child(
                command,
                environment=_environment(plan),
                stdout=self._note_line,
                stderr=subprocess.STDOUT,
                end_seconds=END_SECONDS,
                folder=folder,
            )
        except OSError as error:
            raise WorkerGoneError(f"{command[0]} cannot be run: {error}") from error
        try:
            self._connect(address, key, plan)
        except BaseException:
            self.end()
            raise

    def call(self, keep: str, message: Message) -> int:
        """Send a call. The number under which its answer will stand in `answers`.

        With a name in `keep` the worker keeps the result. Raises `WorkerGoneError`, and the
        host's interruption.
        """
        self._calls += 1
        self._post(("call", self._calls, keep), message)
        return self._calls

    def drop(self, keys: list[str]) -> None:
        """Have the worker forget what it keeps under these names. Raises `WorkerGoneError`."""
        self._post(("drop", keys), Message(b"", ()))

    def has_answered(self, call: int) -> bool:
        """Whether the answer to a call is here. Raises `WorkerGoneError`."""
        while call not in self.answers and self._receive(0.0):
            pass
        return call in self.answers

    def advance(self) -> None:
        """Receive what has come, or wait `POLL_SECONDS` for it.

        Raises `WorkerGoneError` if the process has ended, or does not stop a call that was
        abandoned; and the host's interruption.
        """
        self._receive(POLL_SECONDS)
        host.check_interrupted()

    def abandon(self, call: int, seconds: float) -> None:
        """The answer to a call is not wanted any more. Waits so long for the worker to stop it.

        Raises `WorkerGoneError`.
        """
        self.ask("abandon", call)
        self._unwanted[call] = time.monotonic()
        deadline = time.monotonic() + seconds
        while call in self._unwanted and (left := deadline - time.monotonic()) > 0:
            self._receive(min(left, POLL_SECONDS))

    def longest_unstopped(self) -> float:
        """For how many seconds a call was abandoned that the worker still computes."""
        return time.monotonic() - min(self._unwanted.values(), default=time.monotonic())

    def ask(self, kind: str, *plain: Any) -> int:
        """Ask something that does not wait for calls. The number for `reply`.

        Any thread may do that. Raises `WorkerGoneError`.
        """
        with self._asking:
            self._questions += 1
            if self._control is None:
                raise WorkerGoneError("it was ended")
            try:
                self._control.send((self._questions, kind, *plain))
            except OSError as error:
                raise self._gone() from error
            return self._questions

    def reply(self, question: int) -> Any:
        """The reply, or None if it is not there yet. Raises `WorkerGoneError`."""
        with self._asking:
            if self._control is None:
                raise WorkerGoneError("it was ended")
            try:
                while self._control.poll():
                    number, value = self._control.recv()
                    self._replies[number] = value
            except (EOFError, OSError) as error:
                raise self._gone() from error
            return self._replies.pop(question, None)

    def end(self) -> None:
        """Kill it. What it has not answered is lost."""
        self._child.kill()
        self._child.stop()
        with self._asking:
            if self._control is not None:
                self._control.close()
            self._control = None
        if self._channel is not None:
            self._channel.close()

    def _connect(self, address: str, key: bytes, plan: WorkerPlan) -> None:
        deadline = time.monotonic() + START_SECONDS
        calls = self._connection(address, key, deadline)
        self._channel = Channel(calls, self.advance)
        self._control = control = self._connection(address, key, deadline)
        arguments = host.computing_arguments(host.changed_arguments())
        setup = {"kind": plan.kind, "arguments": arguments, "folders": host.folder_table()}
        try:
            control.send(setup)
            while not control.poll(POLL_SECONDS):
                self._check_start(deadline)
            well, told = control.recv()
        except (EOFError, OSError) as error:
            raise self._gone() from error
        if not well:
            raise WorkerGoneError(told)
        self.description = told

    def _connection(self, address: str, key: bytes, deadline: float) -> Connection:
        while True:
            self._check_start(deadline)
            try:
                connection: Connection = Client(address, authkey=key)
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(LOOK_SECONDS)
            except (AuthenticationError, EOFError, OSError) as error:
                raise self._gone() from error

    def _check_start(self, deadline: float) -> None:
        if self._child.status is not None:
            raise self._gone()
        if time.monotonic() > deadline:
            raise WorkerGoneError(f"it did not answer within {START_SECONDS:.0f} s")
        host.check_interrupted()

    def _post(self, fields: tuple[Any, ...], message: Message) -> None:
        assert self._channel is not None
        try:
            self._channel.post(fields, message)
        except OSError as error:
            raise self._gone() from error

    def _receive(self, seconds: float) -> bool:
        """Read once, if something comes within so many seconds; whether it did."""
        assert self._channel is not None
        try:
            if not wait([self._channel.connection], seconds):
                if self._child.status is not None:
                    raise self._gone()
                return False
            delivery = self._channel.take()
        except (EOFError, OSError) as error:
            raise self._gone() from error
        if delivery is not None:
            call, well = delivery.fields
            if self._unwanted.pop(call, None) is None:
                self.answers[call] = (well, delivery.message)
        return True

    def _gone(self) -> WorkerGoneError:
        status = self._child.wait(STATUS_SECONDS)
        return WorkerGoneError(reason_of_end(status, list(self._lines)))

    def _note_line(self, line: str) -> None:
        if line.strip():
            self._lines.append(line)
            LOGGER.debug("comfyui-ipex: a worker wrote: %s", line.rstrip())


def _write_orders(folder: Path, address: str, key: bytes) -> None:
    orders = {
        "address": address,
        "key": key.hex(),
        "extension": str(EXTENSION),
        "tree": host.tree(),
    }
    (folder / bootstrap.ORDERS).write_text(json.dumps(orders), encoding="utf-8")


def _environment(plan: WorkerPlan) -> dict[str, str]:
    """This process's own, with the worker's device in place of ours."""
    settings = {"COMFYUI_IPEX_DEVICE": plan.kind, SETTING: ""}
    if plan.kind != "cuda":
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return {**os.environ, **settings}


def check_interpreter(plan: WorkerPlan) -> None:
    """Raises `WorkerError`, with what is missing, if `plan`'s interpreter cannot be a worker's.

    It must have this Python's version, because what crosses is read by both.
    """
    command = shlex.join(plan.command)
    try:
        done = subprocess.run(
            [*plan.command, "-c", _ASKED],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise WorkerError(
            f"The worker {plan.name!r} cannot be started: {command!r} is no Python that answers "
            f"({type(error).__name__}: {error}). Correct its path in COMFYUI_IPEX_WORKERS."
        ) from error
    reason = unfit(found, platform.python_version())
    if reason:
        raise WorkerError(f"The worker {plan.name!r} cannot be started: {command} {reason}")


def unfit(found: dict[str, object], python: str) -> str:
    """Why an interpreter that says `found` of itself cannot be a worker's; "" if it can."""
    theirs = str(found["python"])
    if theirs.split(".")[:2] != python.split(".")[:2]:
        return (
            f"is Python {theirs}, and ComfyUI runs on {python}. Make an environment with the same."
        )
    if not found["torch"]:
        return "does not have torch. Install torch for its cards there, and ComfyUI's requirements."
    return ""
