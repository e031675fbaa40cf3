"""One worker, seen from this process: started when needed, called, replaced when it dies."""

import collections
import itertools
import shlex
import threading
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import host
from ..devices import Device
from ..log import LOGGER
from ..worker_plan import SETTING, WorkerPlan
from . import bootstrap, cluster, interpreter
from .errors import WorkerError, raised_here
from .keeper import MARK
from .wire import Kept, packed, unpacked

EXTENSION = Path(__file__).resolve().parents[2]

CHUNK_BYTES = 128 << 20
"""Tensors cross in calls of about this size, so that shared memory holds no whole model."""

START_SECONDS = 180.0

POLL_SECONDS = 0.2

STOP_SECONDS = 30.0

REPORT_SECONDS = 10.0


class WorkerGoneError(Exception):
    """The worker's process ended while it was asked."""


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
        """The worker's life in which the object was made; 0: in none."""
        weakref.finalize(self, worker.abandoned.append, self.key)


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
                    raise WorkerError(self._did_not_start(error)) from error

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """`function(*arguments, **named)` in the worker.

        `function` is one of this extension, and `arguments` may hold residents at their top. It
        must be pure: if the worker dies, it is started again and asked once more. Raises what
        the function raises, the host's interruption, and `WorkerError` if it died twice.
        """
        with self._lock:
            for last in (False, True):
                self.start()
                try:
                    return self._called(function, arguments, named, "")
                except WorkerGoneError as error:
                    self._lost()
                    if last:
                        raise WorkerError(self._ended_twice(function, error)) from error
                    LOGGER.warning(
                        "comfyui-ipex: the worker %r ended (%s). It is started again, and the "
                        "call is repeated once.",
                        self.plan.name,
                        error,
                    )
        raise AssertionError("unreachable")

    def report(self) -> Any:
        """The worker's own `report_data.Report`, also while a call runs in it.

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
            max_concurrency=4,
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
        self._actor, self._life, self.process = None, 0, None

    def _called(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        keep: str,
    ) -> Any:
        self._drop_abandoned()
        handed = tuple(self._kept(value) for value in arguments)
        message = packed((function, handed, {key: self._kept(v) for key, v in named.items()}))
        ticket = uuid.uuid4().hex
        *first, last = in_chunks(message.tensors)
        for rows in first:
            self._answer(self._actor.part.remote(ticket, rows))
        well, plain = self._watched(self._actor.run.remote(message.pickled, last, ticket, keep))
        answer = unpacked(plain)
        if not well:
            raise raised_here(answer, self.plan.name)
        return answer

    def _kept(self, value: Any) -> Any:
        """What stands for `value` in a call; a resident is made first if it is not there."""
        if not isinstance(value, Resident):
            return value
        if value.life != self._life:
            self._called(value.function, value.arguments, {}, value.key)
            value.life = self._life
        return Kept(value.key)

    def _drop_abandoned(self) -> None:
        keys = []
        while self.abandoned:
            keys.append(self.abandoned.popleft())
        if keys:
            self._answer(self._actor.drop.remote(keys))

    def _watched(self, reference: Any) -> Any:
        """The answer to a call, with its progress shown and the user's interrupt passed on."""
        ray = cluster.running()
        bar, shown = None, (0, 0)
        while not ray.wait([reference], timeout=POLL_SECONDS)[0]:
            try:
                host.check_interrupted()
            except BaseException:
                self._answer(self._actor.interrupt.remote())
                ray.wait([reference], timeout=STOP_SECONDS)
                raise
            done, total = self._answer(self._actor.progress.remote())
            if total and (done, total) != shown:
                bar = bar or host.progress_bar(total)
                bar.update_absolute(done, total)
                shown = (done, total)
        return self._answer(reference)

    def _answer(self, reference: Any, seconds: float | None = None) -> Any:
        ray = cluster.running()
        try:
            return ray.get(reference, timeout=seconds)
        except ray.exceptions.GetTimeoutError as error:
            ray.kill(self._actor)
            raise WorkerGoneError(f"it did not answer within {seconds:.0f} s") from error
        except ray.exceptions.RayError as error:
            raise WorkerGoneError(reason_of(error)) from error

    def _did_not_start(self, error: WorkerGoneError) -> str:
        command = shlex.join(self.plan.command)
        return (
            f"The worker {self.plan.name!r} could not be started: {error}. It needs an "
            f"interpreter ({command}) of this Python's version with ray, torch for "
            f"{self.plan.kind} and ComfyUI's requirements. Its log lies in {cluster.folder()}."
        )

    def _ended_twice(self, function: Callable[..., Any], error: WorkerGoneError) -> str:
        return (
            f"The worker {self.plan.name!r} ended twice while it was asked for "
            f"{function.__name__!r}: {error}. Its memory or the machine's may have run out, or its "
            "device was lost. The next prompt starts it again; smaller pictures or another device "
            "may help."
        )


def reason_of(error: Exception) -> str:
    """Why a worker ended, in one line; Ray's own text is long where it does not know."""
    if "worker process has died" in str(error):
        return "its process died: killed, or out of the machine's memory, or crashed"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def in_chunks(rows: tuple[Any, ...]) -> list[list[Any]]:
    """The rows of a message in groups of about `CHUNK_BYTES`; at least one group."""
    groups: list[list[Any]] = [[]]
    size = 0
    for row in rows:
        if groups[-1] and size + row[3].nbytes > CHUNK_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += row[3].nbytes
    return groups
