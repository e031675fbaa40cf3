"""A toy of a host and of its neighbours, for the tests of seams."""

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from comfyui_ipex.xpu_runtime.seam import Seam

MODULE = "toy_host.memory"


def free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
    """The host's own answer."""
    return ("host", dev, torch_free_too)


class Loader:
    """Methods of every kind."""

    def load(self, model: str, *, lowvram: int = 0) -> Any:
        return ("load", model, lowvram)

    @staticmethod
    def count(start: int = 0) -> Any:
        return ("count", start)

    @classmethod
    def make(cls, name: str) -> Any:
        return (cls.__name__, name)

    @property
    def size(self) -> int:
        return 1


class QuickLoader(Loader):
    """Inherits everything."""


def made_by(module: str, function: Callable[..., Any]) -> Any:
    """`function` as if the module of that name had defined it."""
    return types.FunctionType(
        function.__code__,
        {**function.__globals__, "__name__": module},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


@contextmanager
def toy_host() -> Iterator[Any]:
    """A fresh toy host in `sys.modules`; after it, every toy module is gone."""
    before = set(sys.modules)
    sys.modules["toy_host"] = types.ModuleType("toy_host")
    module: Any = add_module(MODULE)
    module.free_memory = made_by(MODULE, free_memory)
    module.Loader = type("Loader", (), dict(vars(Loader)))
    module.QuickLoader = type("QuickLoader", (module.Loader,), {})
    module.NUMBER = 3
    try:
        yield module
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("toy_"):
                del sys.modules[name]


def add_module(name: str, **attributes: Any) -> Any:
    """A module of that name in `sys.modules`."""
    module = types.ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module
    return module


def ours(original: Callable[..., Any]) -> Callable[..., Any]:
    """A replacement of `free_memory` that shows itself and delegates."""

    def replacement(dev: Any = None, torch_free_too: bool = False) -> Any:
        return ("ours", original(dev, torch_free_too))

    return replacement


def pass_through(original: Callable[..., Any]) -> Callable[..., Any]:
    """A replacement that fits everything."""

    def replacement(*args: Any, **kwargs: Any) -> Any:
        return ("ours", original(*args, **kwargs))

    return replacement


def seam(name: str = "free-memory", target: str = f"{MODULE}:free_memory", **fields: Any) -> Seam:
    """A seam of the toy host."""
    defaults: dict[str, Any] = {
        "replace": ours if target.endswith("free_memory") else pass_through,
        "reason": "models do not fit",
        "not_needed": lambda: None,
    }
    return Seam(name, target, **{**defaults, **fields})
