"""What workers hold for the networks of this process, so that no weights are sent twice."""

import weakref
from collections.abc import Callable, Hashable

from ...workers import Resident

REMOTE = "ipex_remote"
"""The attribute of a proxy that says what it stands for. Copies of a proxy have it as well."""


class HandleRegistry:
    """Handles by what they are made of. An owner is referred to weakly: a VAE, a network."""

    def __init__(self) -> None:
        self._alive: weakref.WeakKeyDictionary[
            object, weakref.WeakValueDictionary[Hashable, Resident]
        ] = weakref.WeakKeyDictionary()
        self._kept: weakref.WeakKeyDictionary[object, dict[Hashable, Resident]]
        self._kept = weakref.WeakKeyDictionary()

    def share(self, owner: object, key: Hashable, make: Callable[[], Resident]) -> Resident:
        """The handle of `owner` and `key`, made now if there is none.

        It goes with the last of those that were given it.
        """
        handles = self._alive.setdefault(owner, weakref.WeakValueDictionary())
        found = handles.get(key)
        if found is None:
            found = handles[key] = make()
        return found

    def keep(self, owner: object, key: Hashable, make: Callable[[], Resident]) -> Resident:
        """The same, for a handle that goes with `owner`: it must not refer to it."""
        found = self.share(owner, key, make)
        self._kept.setdefault(owner, {})[key] = found
        return found


HANDLES = HandleRegistry()
