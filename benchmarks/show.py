"""What a person sees while it runs: a live table where rich and a terminal are, else lines."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import words
from .result import CaseResult

if TYPE_CHECKING:
    from rich.live import Live as RichLive

SHOWN = ("case", "dtype", "device", "time", "+-", "ratio", "rate", "of peak", "memory", "error")
NARROW = ("case", "dtype", "time", "ratio", "of peak")
"""What fits beside a case's name where the terminal has fewer than WIDE columns."""
WIDE = 150
ROWS = 30

_GONE = (errno.EPIPE, errno.EIO)
"""Who read what is shown has ended (Ctrl+C ends a `tee`, too), or the terminal was closed."""


def say(text: str) -> None:
    """Write a line for the person at the terminal, if there still is one.

    Raises `OSError` where the output is a file that cannot be written.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in _GONE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cells(result: CaseResult, columns: Sequence[str] = SHOWN) -> list[str]:
    values = dict(zip(words.HEADER, words.cells(result), strict=True))
    return [values[name] for name in columns]


class Lines:
    def begins(self, what: Sequence[str]) -> None:
        """Nothing: the line comes with the result."""

    def found(self, result: CaseResult) -> None:
        parts = [part for part in _cells(result) if part]
        say("  ".join([result.suite, *parts]) + (f"  {result.why}" if result.why else ""))


class Live:
    """A table that grows, and what is being measured."""

    def __init__(self, live: "RichLive") -> None:
        self.live = live
        self.results: dict[tuple[str, ...], CaseResult] = {}
        self.now = ""

    def begins(self, what: Sequence[str]) -> None:
        self.now = " ".join(what)
        self._draw()

    def found(self, result: CaseResult) -> None:
        self.results[result.key] = result
        self._draw()

    def _draw(self) -> None:
        from rich.table import Table
        from rich.text import Text

        hidden = max(0, len(self.results) - ROWS)
        earlier = f", {hidden} earlier ones not shown" if hidden else ""
        columns = SHOWN if self.live.console.width >= WIDE else NARROW
        table = Table(caption=f"measuring {self.now}{earlier}", pad_edge=False, box=None)
        for name in columns:
            table.add_column(name, overflow="fold", no_wrap=name != "case")
        for result in list(self.results.values())[hidden:]:
            table.add_row(*(Text(cell) for cell in _cells(result, columns)))
        self.live.update(table)


@contextlib.contextmanager
def shown() -> Iterator[Lines | Live]:
    """Who shows a run on this terminal."""
    if not sys.stdout.isatty():
        yield Lines()
        return
    try:
        from rich.live import Live as RichLive
    except ImportError:
        yield Lines()
        return
    with RichLive(refresh_per_second=4, vertical_overflow="visible") as live:
        yield Live(live)
