"""One worker, seen from this process: started when needed, called, replaced when it dies."""

import collections
import itertools
import os
import shlex
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import host
from ..devices import Device
from ..log import LOGGER
from ..worker_plan import SETTING, WorkerPlan
from . import bootstrap, cluster, interpreter
from .calls import Pending, Resident, Sent, WorkerGoneError
from .errors import LOST, WorkerError, did_not_start, ended_twice, raised_here, reason_of
from .keeper import MARK
from .wire import Kept, in_chunks, packed, unpacked

EXTENSION = Path(__file__).resolve().parents[2]

START_SECONDS = 180.0

POLL_SECONDS = 0.2

STOP_SECONDS = 30.0

REPORT_SECONDS = 10.0

CONCURRENCY = 6
"""Calls that may wait in a worker at a time, with those that only look; one computes."""


class Worker:
    """One worker. Calls from several threads take turns in it."""

    def __init__(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self.devices: tuple[Device, ...] = ()
        """As they were when the worker was last started, named for this process's menus."""
        self.torch = ""
        self.process: int | None = None
        self.abandoned: collections.deque[str] = collections.deque()
        """Names of objects that nobody needs any more. Filled by finalizers, at any moment."""
        self._under_way: dict[str, Sent] = {}
        self._actor: Any = None
        self._lives = itertools.count(1)
        self._life = 0
        self._lock = threading.RLock()

    def start(self) -> None:
        """Start the worker's process unless it runs, and ask for its devices.

        Raises `WorkerError`, with the way to its log if it has one.
        """
        with self._lock:
            if self._actor is None:
                try:
                    self._begin()
                except WorkerGoneError as error:
                    raise WorkerError(did_not_start(self.plan, error, cluster.folder())) from error

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
            self.start()
            try:
                sent = self._sent(function, arguments, {}, "")
            except WorkerGoneError:
                self._lost()
                return Pending(self, None, function, arguments)
            self._under_way[sent.ticket] = sent
            return Pending(self, sent, function, arguments)

    def has_answered(self, sent: Sent) -> bool:
        """Whether a call is done, or its worker has ended."""
        if sent.life != self._life:
            return True
        return bool(cluster.running().wait([sent.reference], timeout=0)[0])

    def finish(self, sent: Sent | None, function: Callable[..., Any], arguments: Any) -> Any:
        """The answer to a call that was begun: see `Pending.result`."""
        try:
            if sent is None or sent.life != self._life:
                raise WorkerGoneError("it ended before this call")
            return self._received(sent)
        except WorkerGoneError as error:
            with self._lock:
                if sent is not None and sent.life == self._life:
                    self._lost()
                self._warn(error)
                return self._asked(function, arguments, {}, attempts=1)
        finally:
            if sent is not None:
                self._under_way.pop(sent.ticket, None)

    def abandon(self, sent: Sent) -> None:
        """A call that was begun is not wanted any more. Returns when the worker is free of it.

        That is after `STOP_SECONDS` at most, or when the worker has ended.
        """
        self._under_way.pop(sent.ticket, None)
        if sent.life != self._life:
            return
        try:
            self._answer(self._actor.abandon.remote(sent.ticket))
        except WorkerGoneError:
            self._lost()
            return
        cluster.running().wait([sent.reference], timeout=STOP_SECONDS)

    def report(self) -> Any:
        """The worker's own `report.SystemReport`, also while a call runs in it.

        Raises `RuntimeError` if it does not run or does not answer.
        """
        actor = self._actor
        if actor is None:
            raise RuntimeError("it does not run; the next call starts it")
        ray = cluster.running()
        try:
            return unpacked(ray.get(actor.report.remote(), timeout=REPORT_SECONDS))
        except ray.exceptions.RayError as error:
            raise RuntimeError(reason_of(error)) from error

    def stop(self) -> None:
        """End the worker's process."""
        with self._lock:
            if self._actor is not None:
                cluster.running().kill(self._actor)
                self._lost()

    def _begin(self) -> None:
        ray = cluster.running()
        interpreter.check(self.plan, ray.__version__)
        ray.cloudpickle.register_pickle_by_value(bootstrap)
        settings = {
            "COMFYUI_IPEX_DEVICE": self.plan.kind,
            SETTING: "",
            MARK: cluster.folder(),
        }
        if self.plan.kind != "cuda":
            settings["CUDA_VISIBLE_DEVICES"] = ""
        options = ray.remote(bootstrap.WorkerActor).options(
            num_cpus=0,
            resources={cluster.SLOTS: 1},
            max_concurrency=CONCURRENCY,
            max_restarts=0,
            runtime_env={"py_executable": shlex.join(self.plan.command), "env_vars": settings},
        )
        arguments = host.computing_arguments(host.changed_arguments())
        setup = {
            "extension": str(EXTENSION),
            "tree": host.tree(),
            "kind": self.plan.kind,
            "arguments": arguments,
            "folders": host.folder_table(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
        }
        self._actor = options.remote(setup)
        self._life = next(self._lives)
        try:
            told = self._answer(self._actor.describe.remote(), START_SECONDS)
        except BaseException:
            self._lost()
            raise
        self.process, self.torch = told["pid"], told["torch"]
        self.devices = tuple(
            Device(f"{name}@{self.plan.name}", label, identity, memory)
            for name, label, identity, memory in told["devices"]
        )

    def _lost(self) -> None:
        """Nothing that was kept exists any more."""
        self._under_way.clear()
        self._actor, self._life, self.process = None, 0, None

    def _asked(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        attempts: int,
    ) -> Any:
        with self._lock:
            for left in reversed(range(attempts)):
                self.start()
                try:
                    return self._received(self._sent(function, arguments, named, ""))
                except WorkerGoneError as error:
                    self._lost()
                    if not left:
                        raise WorkerError(
                            ended_twice(self.plan, function.__name__, error)
                        ) from error
                    self._warn(error)
        raise AssertionError("unreachable")

    def _warn(self, error: WorkerGoneError) -> None:
        LOGGER.warning(
            "comfyui-ipex: the worker %r ended (%s). It is started again, and the call is "
            "repeated once.",
            self.plan.name,
            error,
        )

    def _sent(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        keep: str,
    ) -> Sent:
        """The call, handed over. Its residents are made first."""
        self._drop_abandoned()
        handed = tuple(self._kept(value) for value in arguments)
        message = packed((function, handed, {key: self._kept(v) for key, v in named.items()}))
        ticket = uuid.uuid4().hex
        *first, last = in_chunks(message.tensors)
        for rows in first:
            self._answer(self._actor.part.remote(ticket, rows))
        reference = self._actor.run.remote(message.pickled, last, ticket, keep)
        return Sent(reference, ticket, self._life)

    def _received(self, sent: Sent) -> Any:
        """The answer. Raises what the function raised, and `WorkerGoneError`."""
        well, plain = self._watched(sent)
        answer = unpacked(plain)
        if well:
            return answer
        if answer.nature == LOST:
            # A process cannot use a card again that was reset under it; a new one can.
            cluster.running().kill(self._actor)
            raise WorkerGoneError(f"its device was lost: {answer.text}")
        raise raised_here(answer, self.plan.name)

    def _kept(self, value: Any) -> Any:
        """What stands for `value` in a call; a resident is made first if it is not there."""
        if not isinstance(value, Resident):
            return value
        if value.life != self._life:
            self._received(self._sent(value.function, value.arguments, {}, value.key))
            value.life = self._life
        return Kept(value.key)

    def _drop_abandoned(self) -> None:
        keys = []
        while self.abandoned:
            keys.append(self.abandoned.popleft())
        if not keys:
            return
        dropped = self._actor.drop.remote(keys)
        if not self._under_way:  # else it would wait for what the worker computes now
            self._answer(dropped)

    def _watched(self, sent: Sent) -> Any:
        """The answer to a call, with its progress shown and the user's interrupt passed on."""
        ray = cluster.running()
        bar, shown = None, (0, 0)
        while not ray.wait([sent.reference], timeout=POLL_SECONDS)[0]:
            try:
                host.check_interrupted()
            except BaseException:
                self.abandon(sent)
                raise
            done, total = self._answer(self._actor.progress.remote())
            if total and (done, total) != shown:
                bar = bar or host.progress_bar(total)
                bar.update_absolute(done, total)
                shown = (done, total)
        return self._answer(sent.reference)

    def _answer(self, reference: Any, seconds: float | None = None) -> Any:
        ray = cluster.running()
        try:
            return ray.get(reference, timeout=seconds)
        except ray.exceptions.GetTimeoutError as error:
            ray.kill(self._actor)
            raise WorkerGoneError(f"it did not answer within {seconds:.0f} s") from error
        except ray.exceptions.RayError as error:
            raise WorkerGoneError(reason_of(error)) from error
