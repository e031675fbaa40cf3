"""A worker's process as the conductor sees it: messages, last words, an end that leaves nothing."""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType

from .interruption import Interruption

END_S = 30.0
"""How long a worker that is to end may take; then it is killed."""

CLEAN_UP_S = 120.0
"""The same for one that ends by itself: on a busy machine, servers that it had end slowly."""

LINES_KEPT = 200


class Child:
    """A process in a session of its own; a context manager that ends it with all that it started.

    Ctrl+C in a terminal does not reach it, so that whether it is to end is decided in one place.
    It sees by its standard input that this process has gone, however that happened.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], interruption: Interruption
    ) -> None:
        self.messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        """Lines of its standard output, at last an empty text; None: the run is to end."""
        self.printed: list[str] = []
        """The last lines of what it wrote for people."""
        self.stopped = False
        """Whether it was told to end before it was done."""
        self.late = False
        """Whether it did not end by itself, and was killed."""
        self.status: int | None = None
        """Its exit status, once it has ended."""
        self._deadline: float | None = None
        self._interruption = interruption
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        streams = ((self._process.stdout, self.messages.put), (self._process.stderr, self._print))
        self._readers = [
            threading.Thread(target=_forward, args=stream, daemon=True) for stream in streams
        ]

    def __enter__(self) -> "Child":
        for reader in self._readers:
            reader.start()
        self._interruption.wake(self.messages)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.stop()
        self._end()

    def stop(self) -> None:
        """Tell it to end; once, so that it can clean up."""
        if not self.stopped:
            self.stopped = True
            self._deadline = time.monotonic() + END_S
            os.kill(self._process.pid, signal.SIGTERM)  # it stays known until `_end`

    @property
    def left_s(self) -> float:
        """Seconds that one that is to end has left."""
        return END_S if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def kill(self) -> None:
        """End it and all that it has started at once."""
        self.stopped = True
        # Its number cannot be another group's: nobody waits for it before `_end`.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        self._deadline = self._deadline or time.monotonic() + CLEAN_UP_S
        while not self._over() and self.left_s > 0 and not self._interruption.hurried:
            time.sleep(0.02)
        self.late, stopped = not self._over(), self.stopped
        self.kill()
        self.stopped = stopped
        self.status = self._process.wait()
        self._readers[1].join(timeout=5)  # its last words
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _over(self) -> bool:
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, how) is not None

    def _print(self, line: str) -> None:
        self.printed = [*self.printed[-LINES_KEPT:], line]


def _forward(stream: Iterable[str], hand_on: Callable[[str], None]) -> None:
    """Hand on each line, and at the end an empty one."""
    for line in stream:
        hand_on(line)
    hand_on("")
