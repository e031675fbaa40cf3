"""Replacing attributes of a running host: found by name, compared, put back exactly as stored.

A replacement goes to all its places or to none.
"""

import fnmatch
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Final

from . import signatures

Factory = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a new function around the original that it is given."""

_MARK = "__comfyui_ipex_seam__"

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
class HostAttribute:
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
            raise TargetError(f"{self.name} cannot be assigned: {describe_error(error)}") from error
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
        function: Callable[..., Any] = (
            stored.__func__ if type(stored) in (staticmethod, classmethod) else stored
        )
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
    return target.partition(":")[0] in sys.modules


def find(target: str) -> HostAttribute:
    """The place that `target` names; its module is imported. Raises `TargetError`."""
    module, _, path = target.partition(":")
    *classes, attribute = path.split(".")
    if not module or not all([*classes, attribute]):
        raise TargetError(f"{target!r} is not written as module:attribute")
    try:
        owner: Any = importlib.import_module(module)
    except Exception as error:  # a module may raise anything while it is imported
        raise TargetError(f"{module} cannot be imported: {describe_error(error)}") from error
    for name in classes:
        owner = _inner(owner, name)
        if not isinstance(owner, type):
            raise TargetError(f"{target}: this host has no class {name}")
    if not isinstance(owner, ModuleType | type):
        raise TargetError(f"{module} is a {type(owner).__name__}, not a module")
    return HostAttribute(target, owner, attribute)


def _inner(owner: Any, name: str) -> Any:
    in_a_table = _IN_A_TABLE.fullmatch(name)
    if in_a_table is None:
        return inspect.getattr_static(owner, name, MISSING)
    table = inspect.getattr_static(owner, in_a_table["table"], MISSING)
    return table.get(in_a_table["key"], MISSING) if isinstance(table, dict) else MISSING


def find_copies(names: tuple[str, ...], original: object) -> Iterator[HostAttribute]:
    """Those of the "module:attribute" `names` that hold `original` itself. Imports nothing.

    The module may be a pattern of `fnmatch`, "comfy.*", for all loaded modules of such names. A
    module that was loaded under several names counts once.
    """
    seen: set[tuple[int, str]] = set()
    for name in names:
        pattern, _, attribute = name.partition(":")
        for module in [m for m in list(sys.modules) if fnmatch.fnmatchcase(m, pattern)]:
            place = HostAttribute(f"{module}:{attribute}", sys.modules[module], attribute)
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


def name_origin(stored: Any, host_module: str) -> str:
    """The name of the module that made `stored`, for people."""
    function = next(wrapped_chain(stored), None)
    module = getattr(function, "__module__", None)
    if isinstance(function, FunctionType) and module == host_module:
        # functools.wraps copies the host's name; the code still knows where it was written.
        module = function.__globals__.get("__name__")
    return str(module or type(function).__module__)


def describe_error(error: Exception) -> str:
    """One line for a report: the kind of error and its text."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")


@dataclass(frozen=True)
class Replaced:
    """A place, what was stored in it, and what we stored there instead."""

    place: HostAttribute
    before: Any
    ours: Any

    def put_back(self) -> bool:
        """Restore what was there, if ours is still there. False if the place was left alone."""
        if self.place.own() is not self.ours:
            return False
        try:
            self.place.put(self.before)
        except TargetError:
            return False
        return True


@dataclass(frozen=True)
class Replacement:
    """A function that was put into the host, and every place to restore."""

    place: HostAttribute
    function: FunctionType
    replaced: tuple[Replaced, ...]
    """The target first, then copies. Empty if an earlier installation put the function there."""


def leads_to(stored: Any, function: FunctionType) -> bool:
    """True if what is `stored` is `function`, or says that it wraps it."""
    return any(link is function for link in wrapped_chain(stored))


def by_whom(place: HostAttribute) -> str:
    """Who made what stands in `place`: "by other_pack"."""
    standing = place.standing()
    if standing is MISSING:
        return "by nobody: the attribute is gone"
    other_seam = _marked(next(wrapped_chain(standing)))
    if other_seam is not None:
        return f"by the seam {other_seam!r}"
    return f"by {name_origin(standing, place.module)}"


def _marked(function: Any) -> str | None:
    """The name of the seam whose replacement `function` is.

    The mark names its bearer, because functools.wraps copies marks to other packs' wrappers.
    """
    match inspect.getattr_static(function, _MARK, None):
        case (str(name), bearer) if bearer is function:
            return name
    return None


def find_earlier(name: str, target: str) -> Replacement | None:
    """What an installation of this process has already put there for the seam `name`, if any."""
    if target.partition(":")[0] not in sys.modules:
        return None
    try:
        place = find(target)
    except TargetError:
        return None
    for function in wrapped_chain(place.standing()):
        if _marked(function) == name:
            return Replacement(place, function, ())
    return None


def install_replacement(
    name: str, target: str, factory: Factory, also: tuple[str, ...]
) -> Replacement:
    """Replace `target` and those of `also` that hold a copy: all or, with a `TargetError`, none.

    The installed function is the factory's own, so a call costs no more than that function.
    """
    place = find(target)
    original = place.function()
    replacement = make_replacement(target, factory, original, takes_self=place.takes_self())
    setattr(replacement, _MARK, (name, replacement))
    planned = [Replaced(place, place.own(), place.in_the_form_stored(replacement))]
    for copy in find_copies(also, original):
        if (copy.owner, copy.attribute) != (place.owner, place.attribute):
            planned.append(Replaced(copy, original, replacement))
    try:
        for replaced in planned:
            replaced.place.put(replaced.ours)
    except TargetError:
        for replaced in reversed(planned):
            replaced.put_back()
        raise
    return Replacement(place, replacement, tuple(planned))


def make_replacement(
    target: str, factory: Factory, original: Callable[..., Any], takes_self: bool
) -> FunctionType:
    """What the factory makes of `original`, fit to stand in its place, which is left alone.

    `takes_self` tells a method from a function. Raises `TargetError` if it does not fit.
    """
    replacement = _new(factory, original)
    _compare(target, original, replacement, takes_self)
    functools.update_wrapper(replacement, original)
    return replacement


def _new(factory: Factory, original: Callable[..., Any]) -> FunctionType:
    try:
        replacement = factory(original)
    except Exception as error:  # a seam's own factory may raise anything
        raise TargetError(f"its replacement could not be made: {describe_error(error)}") from error
    if not isinstance(replacement, FunctionType):
        raise TargetError(f"its replacement is a {type(replacement).__name__}, not a function")
    if replacement is original or _marked(replacement) is not None:
        raise TargetError("its replacement is not a new function")
    return replacement


def _compare(
    target: str, original: Callable[..., Any], replacement: FunctionType, takes_self: bool
) -> None:
    """Raise `TargetError` unless `replacement` accepts every call that the original accepts."""
    if inspect.iscoroutinefunction(original) != inspect.iscoroutinefunction(replacement):
        raise TargetError(f"{target}: one of original and replacement is async, one is not")
    ours, theirs = signatures.read_signature(replacement), signatures.ANYTHING
    for function in wrapped_chain(original):
        # Another pack's (*args, **kwargs) says nothing about what callers pass: ask further in.
        theirs = signatures.read_signature(function)
        if not signatures.accepts_anything(theirs, after_self=takes_self):
            break
    if takes_self:
        if not signatures.takes_self(ours):
            raise TargetError(f"{target}: the replacement does not accept self")
        ours, theirs = signatures.without_self(ours), signatures.without_self(theirs)
    found = signatures.find_objection(theirs, ours)
    if found is not None:
        raise TargetError(f"{target}: {found}")
