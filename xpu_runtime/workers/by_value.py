"""How functions and classes that cannot be imported cross: by what they are made of.

ComfyUI's VAEs hold lambdas, and many of its text encoders are of a class that a function made: the
standard pickle refuses both. Here a function crosses as its code, which is the same in both
processes because both have the same version of Python, and a class as its name, bases and
attributes. What a function calls is looked up in its own module, which both can import.
"""

import importlib
import marshal
import sys
import types
from typing import Any

# Classes that have no name of their own anywhere; `pickle` knows them.
_NAMELESS = (type(None), type(...), type(NotImplemented))

_OF_FUNCTIONS = (
    *("__module__", "__defaults__", "__kwdefaults__", "__qualname__", "__name__", "__doc__"),
)

# What Python gives every class by itself.
_OWN = ("__dict__", "__weakref__", "__module__", "__qualname__", "_abc_impl")


def reduced(value: Any) -> Any:
    """What `pickle` is to write for `value`; `NotImplemented` if it knows that itself."""
    if isinstance(value, types.ModuleType):
        return importlib.import_module, (value.__name__,)
    if isinstance(value, types.CellType):
        return _cell, (), {"cell_contents": _contents(value)}, None, None, _set_attributes
    if isinstance(value, classmethod | staticmethod):
        return type(value), (value.__func__,)
    if isinstance(value, property):
        return property, (value.fget, value.fset, value.fdel, value.__doc__)
    if isinstance(value, types.FunctionType) and not _is_importable(value):
        return _reduced_function(value)
    if isinstance(value, type) and value not in _NAMELESS and not _is_importable(value):
        return _reduced_class(value)
    return NotImplemented


def _is_importable(value: Any) -> bool:
    found: Any = sys.modules.get(value.__module__ or "")
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _contents(cell: types.CellType) -> Any:
    """None for an empty one, which no function has that can be called."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _reduced_function(function: types.FunctionType) -> Any:
    module = function.__globals__["__name__"]
    made_of = (marshal.dumps(function.__code__), module, function.__closure__)
    state = {name: getattr(function, name) for name in _OF_FUNCTIONS} | vars(function)
    # The state comes after the function, which may refer to itself.
    return _function, made_of, state, None, None, _set_attributes


def _reduced_class(made: type) -> Any:
    names = {"__module__": made.__module__, "__qualname__": made.__qualname__}
    state = {name: value for name, value in vars(made).items() if name not in _OWN}
    made_of = (type(made), made.__name__, made.__bases__, names)
    return _class, made_of, state, None, None, _set_attributes


def _function(code: bytes, module: str, closure: Any) -> types.FunctionType:
    return types.FunctionType(
        marshal.loads(code), vars(importlib.import_module(module)), None, None, closure
    )


def _class(kind: Any, name: str, bases: tuple[type, ...], names: dict[str, str]) -> Any:
    return types.new_class(name, bases, {"metaclass": kind}, lambda space: space.update(names))


def _cell() -> types.CellType:
    return types.CellType()


def _set_attributes(made: Any, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(made, name, value)
