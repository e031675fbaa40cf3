"""The attributes that seams replace: found by name, read as they are stored, put back exactly."""

import fnmatch
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Final

MISSING: Final = object()
"""Stands for an attribute that the owner itself does not have."""

# A class that a host keeps in a table, because it loads the module by its path.
_IN_A_TABLE = re.compile(r"(?P<table>\w+)\[(?P<key>\w+)\]")

_METHODS = (FunctionType, MethodDescriptorType, WrapperDescriptorType)

# Where wrappers keep what they wrap. The second is ComfyUI-MultiGPU's.
_LINKS = ("__wrapped__", "_multigpu_original")


class TargetError(Exception):
    """A target that cannot be replaced in this host; the message says why."""


@dataclass(frozen=True)
class Place:
    """One attribute of a module or a class."""

    name: str
    """As a seam writes it: "module:attribute", "module:Class.attribute" or
    "module:TABLE[Key].attribute" for a class that a dict of the module holds."""
    owner: ModuleType | type
    attribute: str

    @property
    def module(self) -> str:
        """The name of the module whose code the owner is."""
        return self.owner.__module__ if isinstance(self.owner, type) else self.owner.__name__

    def own(self) -> Any:
        """What the owner itself stores, descriptors untouched, or `MISSING`."""
        return vars(self.owner).get(self.attribute, MISSING)

    def standing(self) -> Any:
        """What the attribute means: the owner's own, else what a class inherits, or `MISSING`."""
        if isinstance(self.owner, type):
            for base in self.owner.__mro__:
                if self.attribute in vars(base):
                    return vars(base)[self.attribute]
        return self.own()

    def put(self, value: Any) -> None:
        """Store `value`; `MISSING` deletes. Raises `TargetError` if the owner does not take it."""
        try:
            if value is MISSING:
                delattr(self.owner, self.attribute)
            else:
                setattr(self.owner, self.attribute, value)
        except Exception as error:  # an owner may refuse in any way it likes
            raise TargetError(f"{self.name} cannot be assigned: {described(error)}") from error
        if self.own() is not value:
            raise TargetError(f"{self.name} did not keep what was assigned")

    def takes_self(self) -> bool:
        """True if the function here gets its object or class as the first argument."""
        return isinstance(self.owner, type) and not isinstance(self.standing(), staticmethod)

    def function(self) -> Callable[..., Any]:
        """The plain function that stands here. Raises `TargetError` if it is anything else."""
        stored = self.standing()
        if stored is MISSING:
            raise TargetError(f"{self.name}: {self.owner.__name__} has no {self.attribute}")
        function = stored.__func__ if type(stored) in (staticmethod, classmethod) else stored
        if isinstance(self.owner, type) and function is stored:
            usable = isinstance(function, _METHODS)
        else:
            usable = callable(function) and not isinstance(function, type)
        if not usable:
            raise TargetError(f"{self.name} is a {type(stored).__name__}, not a function")
        return function

    def in_the_form_stored(self, function: FunctionType) -> Any:
        """`function` as a staticmethod or classmethod if such a one stands here, else itself."""
        form = type(self.standing())
        return form(function) if form in (staticmethod, classmethod) else function


def is_loaded(target: str) -> bool:
    """Whether the module that `target` names was imported already."""
    return target.partition(":")[0] in sys.modules


def find(target: str) -> Place:
    """The place that `target` names; its module is imported. Raises `TargetError`."""
    module, _, path = target.partition(":")
    *classes, attribute = path.split(".")
    if not module or not all([*classes, attribute]):
        raise TargetError(f"{target!r} is not written as module:attribute")
    try:
        owner: Any = importlib.import_module(module)
    except Exception as error:  # a module may raise anything while it is imported
        raise TargetError(f"{module} cannot be imported: {described(error)}") from error
    for name in classes:
        owner = _inner(owner, name)
        if not isinstance(owner, type):
            raise TargetError(f"{target}: this host has no class {name}")
    if not isinstance(owner, ModuleType | type):
        raise TargetError(f"{module} is a {type(owner).__name__}, not a module")
    return Place(target, owner, attribute)


def _inner(owner: Any, name: str) -> Any:
    in_a_table = _IN_A_TABLE.fullmatch(name)
    if in_a_table is None:
        return inspect.getattr_static(owner, name, MISSING)
    table = inspect.getattr_static(owner, in_a_table["table"], MISSING)
    return table.get(in_a_table["key"], MISSING) if isinstance(table, dict) else MISSING


def copies(names: tuple[str, ...], original: object) -> Iterator[Place]:
    """Those of the "module:attribute" `names` that hold `original` itself. Imports nothing.

    The module may be a pattern of `fnmatch`, "comfy.*", for all loaded modules of such names. A
    module that was loaded under several names counts once.
    """
    seen: set[tuple[int, str]] = set()
    for name in names:
        pattern, _, attribute = name.partition(":")
        for module in [m for m in list(sys.modules) if fnmatch.fnmatchcase(m, pattern)]:
            place = Place(f"{module}:{attribute}", sys.modules[module], attribute)
            if not isinstance(place.owner, ModuleType) or place.own() is not original:
                continue
            if (id(place.owner), attribute) not in seen:
                seen.add((id(place.owner), attribute))
                yield place


def wrapped_chain(stored: Any) -> Iterator[Any]:
    """The function behind `stored`, what it says that it wraps, and so on inwards."""
    seen: list[int] = []
    while stored is not MISSING and id(stored) not in seen:
        if isinstance(stored, staticmethod | classmethod):
            stored = stored.__func__
        seen.append(id(stored))
        yield stored
        # Statically: other packs' objects must not run code because we look at them.
        found = (inspect.getattr_static(stored, link, MISSING) for link in _LINKS)
        stored = next((inner for inner in found if inner is not MISSING), MISSING)


def origin(stored: Any, host_module: str) -> str:
    """The name of the module that made `stored`, for people."""
    function = next(wrapped_chain(stored), None)
    module = getattr(function, "__module__", None)
    if isinstance(function, FunctionType) and module == host_module:
        # functools.wraps copies the host's name; the code still knows where it was written.
        module = function.__globals__.get("__name__")
    return str(module or type(function).__module__)


def described(error: Exception) -> str:
    """One line for a report: the kind of error and its text."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")
