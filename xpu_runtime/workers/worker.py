"""One worker, seen from this process: started when needed, called, replaced when it dies."""

import collections
import itertools
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import host
from ..devices import Device
from ..log import LOGGER
from ..worker_plan import WorkerPlan
from .channel import Message
from .errors import LOST, WorkerError, WorkerGoneError, did_not_start, ended_twice, raised_here
from .process import POLL_SECONDS, WorkerProcess, check_interpreter
from .wire import Kept, packed, unpacked

ABANDON_SECONDS = 0.5
"""How long a user who cancels waits for the worker to stop. Longer ones stop while others wait."""

STOP_SECONDS = 30.0
"""How long a call may go on that was abandoned, before it holds up another one: then it hangs."""

REPORT_SECONDS = 10.0


class Resident:
    """An object that a worker keeps, with what makes it there again after the worker's death.

    Lives in this process; the worker forgets its object when this one is gone.
    """

    def __init__(self, worker: "Worker", function: Callable[..., Any], *arguments: Any) -> None:
        """`function` is one of this extension; its answer, made in the worker, is what is kept.

        `arguments` may hold other residents of the same worker.
        """
        self.worker = worker
        self.key = uuid.uuid4().hex
        self.function = function
        self.arguments = arguments
        self.life = 0
        """The worker's process in which the object was made, by its number; 0: in none."""
        weakref.finalize(self, worker.abandoned.append, self.key)


@dataclass(frozen=True)
class SentCall:
    """A call on its way: its number, and that of the worker's process."""

    number: int
    life: int


@dataclass(frozen=True, eq=False)
class Pending:
    """A call that a worker computes while this process goes on: `Worker.begin`."""

    worker: "Worker"
    sent: SentCall | None
    """None: the worker ended before it was asked."""
    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def is_there(self) -> bool:
        """Whether `result` would not wait: the answer is here, or the worker has ended."""
        return self.sent is None or self.worker.has_answered(self.sent)

    def result(self) -> Any:
        """The answer; waits for it, with its progress shown and the user's interrupt passed on.

        If the worker has died, it is started again and asked once more. Raises as `Worker.call`.
        """
        return self.worker.finish(self.sent, self.function, self.arguments)

    def abandon(self) -> None:
        """Nobody wants the answer: the worker leaves it out, or stops at its next chance."""
        if self.sent is not None:
            self.worker.abandon(self.sent)


class Worker:
    """One worker. Calls from several threads take turns in it."""

    def __init__(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self.devices: tuple[Device, ...] = ()
        """As they were when the worker was last started, named for this process's menus."""
        self.torch = ""
        self.abandoned: collections.deque[str] = collections.deque()
        """Names of objects that nobody needs any more. Filled by finalizers, at any moment."""
        self._process: WorkerProcess | None = None
        self._lives = itertools.count(1)
        self._lock = threading.RLock()

    @property
    def process(self) -> int | None:
        """The process id; None while it does not run."""
        running = self._process
        return None if running is None else int(running.description["pid"])

    def start(self) -> None:
        """Start the worker's process unless it runs, and ask for its devices.

        Raises `WorkerError` with what the process wrote last, and the host's interruption.
        """
        with self._lock:
            self._started()

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """`function(*arguments, **named)` in the worker.

        `function` is one of this extension, and `arguments` may hold residents at their top. It
        must be pure: if the worker dies, it is started again and asked once more. Raises what
        the function raises, the host's interruption, and `WorkerError` if it died twice.
        """
        return self._asked(function, arguments, named, attempts=2)

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Pending:
        """`function(*arguments)` in the worker, while this process goes on.

        What is asked later waits in the worker for what was asked before. Raises `WorkerError` if
        the worker cannot be started; everything else is raised by the answer's `result`.
        """
        with self._lock:
            process = self._started()
            sent = None
            try:
                sent = self._sent(process, function, arguments, {})
            except WorkerGoneError:
                self._lose(process)
            return Pending(self, sent, function, arguments)

    def has_answered(self, sent: SentCall) -> bool:
        """Whether a call is done, or its worker has ended."""
        with self._lock:
            process = self._process_of(sent)
            try:
                return process is None or process.has_answered(sent.number)
            except WorkerGoneError:
                return True

    def finish(self, sent: SentCall | None, function: Callable[..., Any], arguments: Any) -> Any:
        """The answer to a call that was begun: see `Pending.result`."""
        with self._lock:
            process = None if sent is None else self._process_of(sent)
            try:
                if process is None or sent is None:
                    raise WorkerGoneError("it ended before this call")
                return self._received(process, sent)
            except WorkerGoneError as error:
                if process is not None:
                    self._lose(process)
                self._warn(error)
                return self._asked(function, arguments, {}, attempts=1)

    def abandon(self, sent: SentCall) -> None:
        """A call that was begun is not wanted any more. Returns when the worker is free of it.

        That is after `ABANDON_SECONDS` at most, or when the worker has ended.
        """
        with self._lock:
            process = self._process_of(sent)
            if process is not None:
                self._abandon(process, sent)

    def report(self) -> Any:
        """The worker's own `report.SystemReport`, also while a call runs in it.

        Raises `RuntimeError` if it does not run or does not answer.
        """
        process = self._process
        if process is None:
            raise RuntimeError("it does not run; the next call starts it")
        deadline = time.monotonic() + REPORT_SECONDS
        try:
            question = process.ask("report")
            while (found := process.reply(question)) is None:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"it did not answer within {REPORT_SECONDS:.0f} s")
                time.sleep(POLL_SECONDS / 10)
        except WorkerGoneError as error:
            raise RuntimeError(str(error)) from error
        went_well, said = found
        if not went_well:
            raise RuntimeError(said.decode())
        return unpacked(Message(said, ()))

    def stop(self) -> None:
        with self._lock:
            if self._process is not None:
                self._lose(self._process)

    def _started(self) -> WorkerProcess:
        if self._process is None:
            try:
                self._process = self._new_process()
            except WorkerGoneError as error:
                raise WorkerError(did_not_start(self.plan, error)) from error
            described = self._process.description
            self.torch = described["torch"]
            self.devices = tuple(
                Device(f"{name}@{self.plan.name}", label, identity, memory)
                for name, label, identity, memory in described["devices"]
            )
        return self._process

    def _new_process(self) -> WorkerProcess:
        check_interpreter(self.plan)
        return WorkerProcess(self.plan, next(self._lives))

    def _process_of(self, sent: SentCall) -> WorkerProcess | None:
        process = self._process
        return process if process is not None and process.number == sent.life else None

    def _lose(self, process: WorkerProcess) -> None:
        """Nothing that was kept exists any more."""
        if self._process is process:
            self._process = None
        process.end()

    def _asked(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        attempts: int,
    ) -> Any:
        with self._lock:
            process = self._started()
            try:
                return self._received(process, self._sent(process, function, arguments, named))
            except WorkerGoneError as error:
                self._lose(process)
                if attempts == 1:
                    raise WorkerError(ended_twice(self.plan, function.__name__, error)) from error
                self._warn(error)
            return self._asked(function, arguments, named, attempts - 1)

    def _warn(self, error: WorkerGoneError) -> None:
        LOGGER.warning(
            "comfyui-ipex: the worker %r ended (%s). It is started again, and the call is "
            "repeated once.",
            self.plan.name,
            error,
        )

    def _sent(
        self,
        process: WorkerProcess,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        keep: str = "",
    ) -> SentCall:
        """The call, handed over. Its residents are made first."""
        self._drop_abandoned(process)
        handed = tuple(self._stand_in(process, value) for value in arguments)
        also = {key: self._stand_in(process, value) for key, value in named.items()}
        number = process.call(keep, packed((function, handed, also)))
        return SentCall(number, process.number)

    def _stand_in(self, process: WorkerProcess, value: Any) -> Any:
        """What stands for `value` in a call; a resident is made first if it is not there."""
        if not isinstance(value, Resident):
            return value
        if value.life != process.number:
            sent = self._sent(process, value.function, value.arguments, {}, value.key)
            self._received(process, sent)
            value.life = process.number
        return Kept(value.key)

    def _drop_abandoned(self, process: WorkerProcess) -> None:
        if keys := [self.abandoned.popleft() for _ in range(len(self.abandoned))]:
            process.drop(keys)

    def _received(self, process: WorkerProcess, sent: SentCall) -> Any:
        """The answer. Raises what the function raised, and `WorkerGoneError`."""
        self._wait(process, sent)
        went_well, message = process.answers.pop(sent.number)
        answer = unpacked(message)
        if went_well:
            return answer
        if answer.nature == LOST:
            # A process cannot use a card again that was reset under it; a new one can.
            raise WorkerGoneError(f"its device was lost: {answer.text}")
        raise raised_here(answer, self.plan.name)

    def _wait(self, process: WorkerProcess, sent: SentCall) -> None:
        """Wait for an answer, show the call's progress and pass on the user's interrupt."""
        bar, shown = None, (0, 0)
        question, asked = 0, time.monotonic()
        while not process.has_answered(sent.number):
            try:
                process.advance()
            except WorkerGoneError:
                raise
            except BaseException:
                self._abandon(process, sent)
                raise
            if process.longest_unstopped() > STOP_SECONDS:
                raise WorkerGoneError(f"it did not stop a call within {STOP_SECONDS:.0f} s")
            if question:
                progress = process.reply(question)
                question = 0 if progress is not None else question
                if progress is not None and progress[1] and progress != shown:
                    bar = bar or host.progress_bar(progress[1])
                    bar.update_absolute(*progress)
                    shown = progress
            elif time.monotonic() - asked > POLL_SECONDS:
                question, asked = process.ask("progress", sent.number), time.monotonic()

    def _abandon(self, process: WorkerProcess, sent: SentCall) -> None:
        if process.answers.pop(sent.number, None) is not None:
            return
        try:
            process.abandon(sent.number, ABANDON_SECONDS)
        except WorkerGoneError:
            self._lose(process)
