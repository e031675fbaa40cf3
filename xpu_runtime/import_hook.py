"""Run something right before and right after one module is executed. Standard library only.

A pack's own moments are too early, when torch may not be imported yet, and too late, when the
host has decided and copied what it decided.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .log import LOGGER

# What a host that has changed, or a driver that fails, makes our own code raise.
_SURVIVABLE = (AttributeError, ImportError, OSError, RuntimeError, TypeError)


def around_import(name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Call `before` and `after` once around the execution of the module `name`.

    If it is imported already, only `after` is called, and now: what follows can still be put
    right. What a changed host or a failing driver makes either raise is logged and goes no
    further: the import must not suffer. `SystemExit` ends it, and the next try calls both again.
    """
    if name in sys.modules:
        isolated(after)
    else:
        sys.meta_path.insert(0, _Finder(name, before, after))


class _Finder:
    """Has the other finders find the module, and a `_Loader` execute it."""

    def __init__(self, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
        self.name = name
        self.before = before
        self.after = after
        self._asking = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the one module, as the other finders give it, with our loader."""
        # Another finder that asks all the others would ask this one again, and so on for ever.
        if name != self.name or self._asking:
            return None
        self._asking = True
        try:
            spec = self._found_by_others(name, path, target)
        finally:
            self._asking = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec

    def _found_by_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = (
                None if finder is self or find is None else find(name, path, target)
            )
            if spec is not None:
                return spec
        return None


class _Loader:
    """Stands before a module's own loader until the module is executed."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, which sees nothing of us, between the two calls."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        # A spec may be asked for twice, and is executed by whoever likes.
        if self._finder not in sys.meta_path:
            self._loader.exec_module(module)
            return
        isolated(self._finder.before)
        self._loader.exec_module(module)
        isolated(self._finder.after)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)


def isolated(call: Callable[[], None]) -> None:
    """`call()`; what a changed host or a failing driver makes it raise is logged, no more."""
    try:
        call()
    except _SURVIVABLE:
        LOGGER.exception("comfyui-ipex failed while ComfyUI was starting. Please report this.")
