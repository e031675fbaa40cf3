"""What a worker's process does: take calls, one at a time, and keep what belongs to them."""

import os
import threading
import traceback
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from .. import host, prestart, runtime
from ..devices import discover
from ..log import LOGGER
from .errors import failure_of
from .wire import packed, restored, unpacked


class Serving:
    """One worker's state. Calls run one after another; `progress` and `abandon` do not wait."""

    def __init__(self, setup: dict[str, Any]) -> None:
        """Load the host as a server would, but without one, for the devices of one maker.

        `setup`: "kind", the "arguments" of the host's command line, and the "folders" of models.
        """
        self.progress: tuple[int, int] = (0, 0)
        self._kind: str = setup["kind"]
        self._kept: dict[str, Any] = {}
        self._parts: dict[str, list[Any]] = {}
        # One thread, so that calls run in their order, and torch has one set of threads.
        self._thread = ThreadPoolExecutor(1, "comfyui-ipex call")
        self._calls: dict[str, Future[Any]] = {}
        self._running = ""
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

    def part(self, ticket: str, rows: list[Any]) -> None:
        """Keep copies of tensors until their call comes."""
        self._parts.setdefault(ticket, []).extend(restored(row) for row in rows)

    def run(self, pickled: bytes, rows: list[Any], ticket: str, keep: str) -> Any:
        """Call what was sent. Returns whether that went well, and the result or a `Failure`.

        With a name in `keep` the result stays here, and None is returned. The call waits for
        those before it.
        """
        sent = [*self._parts.pop(ticket, ()), *rows]
        with self._lock:
            call = self._thread.submit(self._run, pickled, sent, ticket, keep)
            self._calls[ticket] = call
        try:
            return call.result()
        except CancelledError:
            return (False, packed(failure_of(host.interruption(), "")).plain)
        finally:
            with self._lock:
                del self._calls[ticket]

    def _run(self, pickled: bytes, sent: list[Any], ticket: str, keep: str) -> Any:
        import torch

        with self._lock:
            self.progress, self._running = (0, 0), ticket
            host.forget_interruption()
        try:
            with torch.inference_mode():
                function, arguments, named = unpacked((pickled, tuple(sent)), self._kept)
                result = function(*arguments, **named)
                if keep:
                    self._kept[keep] = result
                    result = None
                return (True, packed(result).plain)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the host raises it)
            LOGGER.debug("comfyui-ipex: a call failed", exc_info=True)
            return (False, packed(failure_of(error, traceback.format_exc())).plain)
        finally:
            with self._lock:
                self._running = ""

    def drop(self, keys: list[str]) -> None:
        """Forget what was kept under these names; memory goes back to the device."""
        self._thread.submit(self._drop, keys).result()

    def _drop(self, keys: list[str]) -> None:
        for key in keys:
            self._kept.pop(key, None)
        host.forget_unused_models()

    def report(self) -> Any:
        """This process's own report."""
        from ..report import collect

        return packed(collect(self._runtime)).plain

    def abandon(self, ticket: str) -> None:
        """A call that waits is left out; the running one raises the host's interruption."""
        with self._lock:
            call = self._calls.get(ticket)
            if call is not None and not call.cancel() and self._running == ticket:
                host.interrupt()

    def _note(self, done: int, total: int) -> None:
        self.progress = (done, total)
