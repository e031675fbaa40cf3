"""Whether a replacement accepts every call that the function it stands in for accepts."""

import inspect
from collections.abc import Iterator
from inspect import Parameter, Signature

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_PLAIN_VALUES = (bool, int, float, complex, str, bytes)
_CONTAINERS = (dict, list, set)

ANYTHING = Signature(
    [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
)
"""The signature of `def f(*args, **kwargs)`."""


class _Shape:
    """The parts of a signature, by the way in which a call fills them."""

    def __init__(self, signature: Signature) -> None:
        parameters = list(signature.parameters.values())
        kinds = {parameter.kind for parameter in parameters}
        self.positional = [p for p in parameters if p.kind in _BY_POSITION]
        self.keyword_only = {p.name: p for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
        by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        self.keywords = {p.name for p in parameters if p.kind in by_name}
        self.args = Parameter.VAR_POSITIONAL in kinds
        self.kwargs = Parameter.VAR_KEYWORD in kinds


def read_signature(function: object) -> Signature:
    """What `function` itself accepts, whatever it wraps; `ANYTHING` if it cannot say.

    A wrapper's copied identity is not followed, because it would hide a changed signature.
    """
    try:
        return inspect.signature(function, follow_wrapped=False)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # many built-in functions of torch have no signature
        return ANYTHING


def takes_self(signature: Signature) -> bool:
    """True if a call that passes one argument by position, a method's self, has a place for it."""
    shape = _Shape(signature)
    return shape.args or bool(shape.positional)


def without_self(signature: Signature) -> Signature:
    """The signature that callers of a bound method see."""
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind in _BY_POSITION:
        del parameters[0]
    return signature.replace(parameters=parameters)


def accepts_anything(signature: Signature, *, after_self: bool = False) -> bool:
    """True for `(*args, **kwargs)` under whatever names, for a method after its self."""
    shape = _Shape(without_self(signature) if after_self else signature)
    return shape.args and shape.kwargs and not shape.positional and not shape.keyword_only


def find_objection(original: Signature, replacement: Signature) -> str | None:
    """Why a call that fits `original` might not mean the same to `replacement`, or None.

    None guarantees that every call which binds to `original` binds to `replacement`, with each
    argument under its own name, and that an argument left out has the same default, unless
    the replacement takes it through *args or **kwargs.
    """
    theirs, ours = _Shape(original), _Shape(replacement)
    for check in (_rest, _positional, _additional, _keywords):
        for found in check(theirs, ours):
            return found
    return None


def _rest(theirs: _Shape, ours: _Shape) -> Iterator[str]:
    if theirs.args and not ours.args:
        yield "the replacement does not accept *args"
    if theirs.kwargs and not ours.kwargs:
        yield "the replacement does not accept **kwargs"


def _positional(theirs: _Shape, ours: _Shape) -> Iterator[str]:
    for index, parameter in enumerate(theirs.positional):
        if index < len(ours.positional):
            yield from _same_place(theirs, index, parameter, ours.positional[index])
        elif not ours.args:
            yield f"the replacement does not accept {parameter.name!r}"
        elif parameter.kind is Parameter.POSITIONAL_OR_KEYWORD:
            by_keyword = ours.keyword_only.get(parameter.name)
            if by_keyword is not None:
                # A caller that passes it by position leaves the keyword at its default.
                if by_keyword.default is Parameter.empty:
                    yield f"the replacement accepts {parameter.name!r} only by keyword"
                yield from _defaults(parameter, by_keyword)
            elif not ours.kwargs:
                yield f"the replacement does not accept {parameter.name!r} by keyword"


def _same_place(theirs: _Shape, index: int, host: Parameter, own: Parameter) -> Iterator[str]:
    by_keyword = own.kind is Parameter.POSITIONAL_OR_KEYWORD
    if host.kind is Parameter.POSITIONAL_OR_KEYWORD:
        if own.name != host.name:
            yield f"argument {index + 1} is {own.name!r} but the host's is {host.name!r}"
        if not by_keyword:
            yield f"the replacement does not accept {host.name!r} by keyword"
    elif by_keyword and (theirs.kwargs or own.name in theirs.keywords):
        # f(1, name=2) is a call that the host accepts, and here it would fill one name twice.
        yield f"the replacement takes argument {index + 1} as {own.name!r}, a keyword of the host"
    yield from _defaults(host, own)


def _additional(theirs: _Shape, ours: _Shape) -> Iterator[str]:
    for parameter in ours.positional[len(theirs.positional) :]:
        if theirs.args:
            yield f"the replacement's {parameter.name!r} would take one of the host's *args"
        named = parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
        if parameter.default is Parameter.empty and not (
            named and parameter.name in theirs.keyword_only
        ):
            yield f"the replacement requires {parameter.name!r}, which the host does not have"
    for parameter in ours.keyword_only.values():
        if parameter.default is Parameter.empty and parameter.name not in theirs.keywords:
            yield f"the replacement requires {parameter.name!r}, which the host does not have"


def _keywords(theirs: _Shape, ours: _Shape) -> Iterator[str]:
    additional = {
        p.name: p
        for p in ours.positional[len(theirs.positional) :]
        if p.kind is Parameter.POSITIONAL_OR_KEYWORD
    }
    for name, parameter in theirs.keyword_only.items():
        own = ours.keyword_only.get(name) or additional.get(name)
        if own is not None:
            yield from _defaults(parameter, own)
        elif not ours.kwargs:
            yield f"the replacement does not accept the keyword {name!r}"


def _defaults(host: Parameter, own: Parameter) -> Iterator[str]:
    if host.default is Parameter.empty:
        return
    if own.default is Parameter.empty:
        yield f"the replacement requires {own.name!r}, which the host makes optional"
    elif not _same_value(host.default, own.default):
        yield (
            f"the replacement's default of {own.name!r} is {own.default!r} "
            f"but the host's is {host.default!r}"
        )


def _same_value(one: object, other: object) -> bool:
    # Only plain values are compared: the == of a tensor or an array is no truth value.
    if one is other:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same_value, one, other))
    if type(one) is not type(other):
        return False
    # "{}" and "[]" as defaults are two objects that mean the same.
    both_empty = isinstance(one, _CONTAINERS) and not one and not other
    return both_empty or (isinstance(one, _PLAIN_VALUES) and one == other)
