"""Networks that were loaded, by content, location and precision.

The content is a digest of the weights: a file under another name is the same network, and a file
that was written anew with other weights is another one.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from .facts import Memo

HELD_BYTES = 4 << 30
"""Weights that are held for the next run although no workflow holds them; the network that was
used last is always held."""

_MOST_FILES = 1024


class Cached(Protocol):
    digest: str
    """Of the weights."""
    size: int
    """Bytes of the weights."""

    def leave_device(self) -> None:
        """Take the weights off the device."""


Value = TypeVar("Value")


@dataclass(frozen=True)
class CacheKey:
    """What makes two loaded networks the same."""

    kind: Hashable
    """How the files are read: one file may hold several networks."""
    content: str
    location: str
    precision: str


FileIdentity = tuple[str, int, int]
"""A file's path, size in bytes and time of its last change in ns."""


def identity_of(path: Path) -> FileIdentity:
    """What tells a file from one that was written anew. Raises `OSError`."""
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


class NetworkCache:
    """Networks that something still holds, and up to `HELD_BYTES` that only the cache holds."""

    def __init__(self) -> None:
        self._alive: weakref.WeakValueDictionary[CacheKey, object] = weakref.WeakValueDictionary()
        self._held: OrderedDict[CacheKey, Cached] = OrderedDict()
        self._contents: Memo[str] = Memo(_MOST_FILES)

    def find(
        self,
        kind: Hashable,
        files: Sequence[Path],
        location: object,
        precision: str,
        load: Callable[[], Value],
        digest_of: Callable[[Value], str],
    ) -> Value:
        """What `load()` makes of `files`; loaded once while something holds it.

        Raises what `load` raises, and `OSError` for files that are not there.
        """
        source = (kind, *map(identity_of, files))
        content = self._contents.get(source)
        if content is not None:
            found = self._alive.get(CacheKey(kind, content, str(location), precision))
            if found is not None:
                return found  # type: ignore[return-value]
        fresh = load()
        content = self._contents.find(source, lambda: digest_of(fresh))
        key = CacheKey(kind, content, str(location), precision)
        return self._alive.setdefault(key, fresh)  # type: ignore[return-value]

    def hold(self, network: Cached) -> None:
        """Keep `network`, which `find` has answered, for the next run."""
        key = next((key for key, one in self._alive.items() if one is network), None)
        if key is None:
            return
        self._held[key] = network
        self._held.move_to_end(key)
        while len(self._held) > 1 and self.held_bytes > HELD_BYTES:
            self._release()

    @property
    def held_bytes(self) -> int:
        return sum(network.size for network in self._held.values())

    def release(self) -> None:
        """Let go of all networks that are only held for the next run."""
        while self._held:
            self._release()

    def __len__(self) -> int:
        """Networks that are alive."""
        return len(self._alive)

    def _release(self) -> None:
        """Of the one that was not used for longest."""
        _, network = self._held.popitem(last=False)
        # Reference cycles in a network would hold its memory on the card for a while; whoever
        # else holds it has it loaded again.
        network.leave_device()


NETWORKS = NetworkCache()
"""Of this process."""
