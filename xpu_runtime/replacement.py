"""Putting one replacement into the host: made, compared, assigned to all its places or to none."""

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from . import signatures
from .targets import MISSING, Place, TargetError, copies, described, find, origin, wrapped_chain

Factory = Callable[[Callable[..., Any]], Callable[..., Any]]

_MARK = "__comfyui_ipex_seam__"


@dataclass(frozen=True)
class Replaced:
    """A place, what was stored in it, and what we stored there instead."""

    place: Place
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

    place: Place
    function: FunctionType
    replaced: tuple[Replaced, ...]
    """The target first, then copies. Empty if an earlier installation put the function there."""


def leads_to(stored: Any, function: FunctionType) -> bool:
    """True if what is `stored` is `function`, or says that it wraps it."""
    return any(link is function for link in wrapped_chain(stored))


def by_whom(place: Place) -> str:
    """Who made what stands in `place`: "by other_pack"."""
    standing = place.standing()
    if standing is MISSING:
        return "by nobody: the attribute is gone"
    other_seam = _marked(next(wrapped_chain(standing)))
    if other_seam is not None:
        return f"by the seam {other_seam!r}"
    return f"by {origin(standing, place.module)}"


def _marked(function: Any) -> str | None:
    """The name of the seam whose replacement `function` is.

    The mark names its bearer, because functools.wraps copies marks to other packs' wrappers.
    """
    match inspect.getattr_static(function, _MARK, None):
        case (str(name), bearer) if bearer is function:
            return name
    return None


def installed_earlier(name: str, target: str) -> Replacement | None:
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


def put_in_place(name: str, target: str, factory: Factory, also: tuple[str, ...]) -> Replacement:
    """Replace `target` and those of `also` that hold a copy: all or, with a `TargetError`, none.

    The installed function is the factory's own, so a call costs no more than that function.
    """
    place = find(target)
    original = place.function()
    replacement = made(target, factory, original, takes_self=place.takes_self())
    setattr(replacement, _MARK, (name, replacement))
    planned = [Replaced(place, place.own(), place.in_the_form_stored(replacement))]
    for copy in copies(also, original):
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


def made(
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
        raise TargetError(f"its replacement could not be made: {described(error)}") from error
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
    ours, theirs = signatures.stated(replacement), signatures.ANYTHING
    for function in wrapped_chain(original):
        # Another pack's (*args, **kwargs) says nothing about what callers pass: ask further in.
        theirs = signatures.stated(function)
        if not signatures.accepts_anything(theirs, after_self=takes_self):
            break
    if takes_self:
        if not signatures.takes_self(ours):
            raise TargetError(f"{target}: the replacement does not accept self")
        ours, theirs = signatures.without_self(ours), signatures.without_self(theirs)
    found = signatures.objection(theirs, ours)
    if found is not None:
        raise TargetError(f"{target}: {found}")
