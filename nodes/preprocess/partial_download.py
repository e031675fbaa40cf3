"""Files that are not whole yet: one writer at a time, and what belongs together."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

WAIT = 0.5
"""Seconds between two looks whether the user has stopped the workflow."""


@contextmanager
def exclusive(destination: Path, check: Callable[[], None]) -> Iterator[None]:
    """Only one at a time is in here for the same destination, process or thread.

    `check` is called while another one is; what it raises ends the wait.
    """
    from filelock import FileLock, Timeout

    path = destination.with_name(f".{destination.name}.lock")
    if path.is_symlink():  # not every version of filelock leaves alone what a link leads to
        path.unlink()
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=WAIT)
            break
        except Timeout:
            check()
    try:
        yield
    finally:
        lock.release()


class PartialDownload:
    """What has arrived so far, beside the destination; a note says of which file it is."""

    def __init__(self, destination: Path, url: str) -> None:
        self._destination, self._url = destination, url
        self.path = destination.with_name(f".{destination.name}.part")
        self._note = destination.with_name(f".{destination.name}.part.json")

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def etag(self) -> str | None:
        """The server's mark of the file that this is a part of, or None if there is no part."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            mine = note["url"] == self._url and self.length > 0
            return str(note["etag"]) if mine and note["etag"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, etag: str | None) -> None:
        """Remember what the part belongs to."""
        text = json.dumps({"url": self._url, "etag": etag})
        self._note.unlink(missing_ok=True)  # a link would be written through
        self._note.write_text(text, encoding="utf-8")

    def open(self) -> FileIO:
        """For more bytes. What is no file of its own, such as a link, is not written through."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for name in ("O_NOFOLLOW", "O_BINARY"):  # not every system has both
            flags |= getattr(os, name, 0)
        return os.fdopen(os.open(self.path, flags, 0o666), "ab", buffering=0)

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """It is the whole file: it takes its place at once."""
        os.replace(self.path, self._destination)
        self._note.unlink(missing_ok=True)
