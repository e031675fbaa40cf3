"""A bench process as the conductor sees it: messages, last words, an end that leaves nothing.

Signals that ask a run to end are messages too: nothing is raised where one happens to arrive.
"""

import collections
import queue
import signal
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from ..xpu_runtime.processes.child import Child

END_S = 30.0
"""How long a bench process that is to end may take; then it is killed."""

CLEAN_UP_S = 120.0
"""The same for one that ends by itself: on a busy machine, servers that it had end slowly."""

LINES_KEPT = 200

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl+C, being told to end, and a terminal that is closed."""


class Interruption:
    """Whether a run was asked to end. As a context manager it listens to signals.

    A handler that raised would do so between any two instructions: after a process was started and
    before anybody knows it, or while a file takes its place. This one only notes the signal, and
    wakes who waits for messages.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal, or None while there was none."""
        self.hurried = False
        """Ctrl+C was pressed again: what ends slowly is not to be waited for."""
        self._presses = 0
        self._waiting: queue.SimpleQueue[str | None] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in SIGNALS:
            # Under nohup, say, one of them is ignored, and stays so.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    @property
    def asked(self) -> bool:
        return self.number is not None

    def wake(self, waiting: "queue.SimpleQueue[str | None]") -> None:
        """Put None into this queue when the run is to end, at once if it already is."""
        self._waiting = waiting
        if self.asked:
            waiting.put(None)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
        # Not SIGTERM: with it the launcher hands on what the terminal has sent here already.
        self._presses += number == signal.SIGINT
        self.hurried = self._presses > 1
        if self._waiting is not None:
            self._waiting.put(None)  # this queue's put may be called while it is being read


class BenchProcess:
    """A process that measures; a context manager that ends it with all that it started."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], interruption: Interruption
    ) -> None:
        self.messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        """Lines of its standard output, at last an empty text; None: the run is to end."""
        self.printed: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        """The last lines of what it wrote for people."""
        self.stopped = False
        """Whether it was told to end before it was done."""
        self.late = False
        """Whether it did not end by itself, and was killed."""
        self.status: int | None = None
        """Its exit status, once it has ended."""
        self._deadline: float | None = None
        self._interruption = interruption
        self._child = Child(
            command,
            environment=environment,
            stdout=self.messages.put,
            stderr=self.printed.append,
            end_seconds=END_S,
        )

    def __enter__(self) -> "BenchProcess":
        self._interruption.wake(self.messages)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.stop()
        self._deadline = self._deadline or time.monotonic() + CLEAN_UP_S
        while self._child.wait(0.02) is None and self.left_s > 0:
            if self._interruption.hurried:
                break
        self.late = self._child.status is None
        if self.late:
            self._child.kill()
        self.status = self._child.stop()

    def stop(self) -> None:
        """Tell it to end; once, so that it can clean up."""
        if not self.stopped:
            self.stopped = True
            self._deadline = time.monotonic() + END_S
            self._child.ask_to_end()

    @property
    def left_s(self) -> float:
        """Seconds that one that is to end has left."""
        return END_S if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def kill(self) -> None:
        """End it and all that it has started at once."""
        self.stopped = True
        self._child.kill()
