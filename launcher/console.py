"""The one place where the launcher writes to the terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(message: str) -> None:
    """Write one line to standard output at once, also when it is a pipe."""
    print(message, flush=True)


def warn(message: str) -> None:
    """Write one line that a reader must not overlook to standard error."""
    print(f"!! {message}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step that takes a while, and say how many seconds it took."""
    say(f"-- {title} ...")
    began = time.monotonic()
    yield
    say(f"   done in {time.monotonic() - began:.1f} s")
