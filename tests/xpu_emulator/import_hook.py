"""Run something right after the program's first ``import torch``.

Programs set environment variables before they import torch, and ComfyUI warns
when it finds torch imported already; so a launcher must not import it for them.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


class _TorchFinder(importlib.abc.MetaPathFinder):
    """Finds torch as everybody else does, and listens at its loader."""

    def __init__(self, after_import: Callable[[], None]) -> None:
        self._after_import = after_import

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torch":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        # Some programs call importlib.util.find_spec("torch") and never load what
        # they get: only a loader that really ran may retire this finder.
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._after_import()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def after_torch_import(action: Callable[[], None]) -> None:
    """Call `action` once, as soon as torch has been imported.

    Raises RuntimeError when it has been imported already.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch is imported already: call xpu_emulator.install() instead.")
    sys.meta_path.insert(0, _TorchFinder(action))
