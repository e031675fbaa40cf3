"""Signals that ask a run to end, as messages: nothing is raised where one happens to arrive."""

import queue
import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl+C, being told to end, and a terminal that is closed."""


class Interruption:
    """Whether a run was asked to end. As a context manager it listens to signals.

    A handler that raised would do so between any two instructions: after a worker was started and
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    @property
    def asked(self) -> bool:
        """Whether the run is to end."""
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
