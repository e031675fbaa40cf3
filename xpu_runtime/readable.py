"""Parts of a report that may turn out unreadable. Standard library only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_Part = TypeVar("_Part")

# What torch, a driver, the host and the operating system raise where they cannot answer: a
# lost card (RuntimeError), a torch without that back end (AssertionError, AttributeError), a
# host or torch of another version (AttributeError, ImportError, LookupError, TypeError,
# ValueError), a file that may not be read (OSError).
ERRORS = (
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Unreadable:
    """Stands for a part that could not be read."""

    why: str
    """One line: the kind of error and its text."""


def readable(read: Callable[[], _Part]) -> _Part | Unreadable:
    """What `read()` answers, or why it cannot: a report with a gap is better than none."""
    try:
        return read()
    except ERRORS as error:
        first = (str(error).splitlines() or [""])[0]
        return Unreadable(f"{type(error).__name__}: {first}" if first else type(error).__name__)
