"""What a worker's process does: take calls, one at a time, and keep what belongs to them."""

import os
import queue
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from .. import host, prestart, runtime
from ..devices import discover
from ..log import LOGGER
from .channel import Channel, Message
from .errors import failure_of
from .wire import packed, unpacked


class Serving:
    """One worker's state. Calls run one after another in a thread of their own.

    What comes through the second connection does not wait for them.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        """Load the host as a server would, but without one, for the devices of one maker.

        `setup`: "kind", the "arguments" of the host's command line, and the "folders" of models.
        """
        self.progress: tuple[int, int] = (0, 0)
        self._kind: str = setup["kind"]
        self._kept: dict[str, Any] = {}
        self._tasks: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        # Calls have rising numbers, which say what was answered and what is still to come.
        self._current = 0
        self._finished = 0
        self._unwanted: set[int] = set()
        self._lock = threading.Lock()
        host.take_arguments(setup["arguments"])
        prestart.prepare()
        host.load_model_management()
        host.use_model_folders(setup["folders"])
        self._runtime = runtime.start()
        host.watch_progress(self._note)

    def describe(self) -> dict[str, Any]:
        """The process id, and the devices of its maker: name, label, identity, bytes of memory."""
        import torch

        found = [device for device in discover() if device.kind == self._kind]
        rows = [(one.name, one.label, one.identity, one.memory) for one in found]
        return {"pid": os.getpid(), "torch": torch.__version__, "devices": rows}

    def serve(self, calls: Connection, control: Connection) -> None:
        """Returns when the host is gone."""
        channel = Channel(calls)
        threading.Thread(target=self._compute, args=(channel,), daemon=True).start()
        threading.Thread(target=self._control, args=(control,), daemon=True).start()
        try:
            while True:
                delivery = channel.take()
                if delivery is not None:
                    self._tasks.put((*delivery.fields, delivery.message))
        except (EOFError, OSError):
            self._tasks.put(("end", None))

    def _compute(self, channel: Channel) -> None:
        """One thread, so that calls run in their order, and torch has one set of threads."""
        while True:
            kind, *rest = self._tasks.get()
            if kind == "end":
                return
            if kind == "drop":
                self._drop(rest[0])
                continue
            number, keep, message = rest
            went_well, answer = self._answer(number, keep, message)
            try:
                channel.post((number, went_well), answer)
            except OSError:  # the host is gone
                return

    def _answer(self, number: int, keep: str, message: Message) -> tuple[bool, Message]:
        """Whether a call went well, and its result or a `Failure`.

        With a name in `keep` the result stays here, and None is the answer.
        """
        import torch

        try:
            self._begin(number)
            with torch.inference_mode():
                function, arguments, named = unpacked(message, self._kept)
                result = function(*arguments, **named)
                if keep:
                    self._kept[keep] = result
                    result = None
                return True, packed(result)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the host raises it)
            LOGGER.debug("comfyui-ipex: a call failed", exc_info=True)
            return False, packed(failure_of(error, traceback.format_exc()))
        finally:
            with self._lock:
                self._current, self._finished = 0, number

    def _begin(self, number: int) -> None:
        with self._lock:
            self.progress, self._current = (0, 0), number
            host.forget_interruption()
            if number in self._unwanted:
                self._unwanted.discard(number)
                raise host.interruption()

    def _drop(self, keys: list[str]) -> None:
        """Forget what was kept under these names; memory goes back to the device."""
        for key in keys:
            self._kept.pop(key, None)
        host.forget_unused_models()

    def _control(self, control: Connection) -> None:
        """Answer what does not wait. Every question has a number, which its answer repeats."""
        writing = threading.Lock()

        def report(number: int) -> None:
            from ..report import collect

            try:
                answer = (True, packed(collect(self._runtime)).pickled)
            except Exception as error:  # noqa: BLE001 (the host tells why)
                answer = (False, f"{type(error).__name__}: {error}".encode())
            with writing:
                control.send((number, answer))

        try:
            while True:
                number, kind, *rest = control.recv()
                if kind == "report":  # asks drivers, which may take a while
                    threading.Thread(target=report, args=(number,), daemon=True).start()
                elif kind == "abandon":
                    self._abandon(rest[0])
                else:
                    with self._lock:  # a call that waits has made no progress
                        progress = self.progress if rest[0] == self._current else (0, 0)
                    with writing:
                        control.send((number, progress))
        except (EOFError, OSError):
            return

    def _abandon(self, number: int) -> None:
        """A call that waits, or is to come, is left out; the running one is interrupted."""
        with self._lock:
            if number == self._current:
                host.interrupt()
            elif number > self._finished:
                self._unwanted.add(number)

    def _note(self, done: int, total: int) -> None:
        self.progress = (done, total)
