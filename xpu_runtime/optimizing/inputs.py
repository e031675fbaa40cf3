"""What a step of a model is given: its tensors, what else decides how it runs, and what is odd."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

OPTIONS = "transformer_options"

_NOTES = frozenset(
    ("block", "block_index", "block_type", "transformer_index", "original_shape", "total_blocks")
) | frozenset(("activations_shape", "img_slice", "uuids", "wrappers", "callbacks"))
"""What the networks write down while they run, and what only other nodes' code reads."""

_PATCHES = ("patches", "patches_replace")

_LOOKED_AT = 64
"""Numbers in a tensor on the CPU that code may look at: flags and sizes; others are data."""

_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)


@dataclass(frozen=True)
class Flat:
    """The inputs of a step, taken apart."""

    key: tuple[Any, ...]
    """Equal for inputs that differ in the numbers of their tensors alone."""
    tensors: tuple[Tensor, ...]
    odd: str
    """What keeps a step from being repeated without its Python code; "" if nothing does."""


def flat(value: Any) -> Flat:
    """The inputs `value` (nested tuples, lists and dicts) taken apart."""
    key: list[Any] = []
    tensors: list[Tensor] = []
    odd: list[str] = []
    _take(value, "", key, tensors, odd)
    return Flat(tuple(key), tuple(tensors), ", ".join(odd))


def _take(value: Any, name: str, key: list[Any], tensors: list[Tensor], odd: list[str]) -> None:
    if isinstance(value, Tensor):
        key.append((name, tuple(value.shape), value.dtype, str(value.device), value.stride()))
        if value.device.type == "cpu":
            # Python code may look at its numbers, and then they decide how the step runs.
            key.append(tuple(value.flatten().tolist()) if value.numel() <= _LOOKED_AT else ())
        tensors.append(value)
    elif isinstance(value, dict):
        key.append((name, len(value)) if name != OPTIONS else name)
        for inner, one in value.items():
            if inner in _PATCHES:
                odd.extend(f"{inner} {what!r}" for what, found in one.items() if found)
            elif inner not in _NOTES:
                _take(one, str(inner), key, tensors, odd)
    elif isinstance(value, list | tuple):
        key.append((name, len(value)))
        for one in value:
            _take(one, name, key, tensors, odd)
    elif isinstance(value, _PLAIN):
        key.append((name, value))
    elif not isinstance(value, uuid.UUID):
        odd.append(f"{name} ({type(value).__name__})")


def rebuilt(value: Any, tensors: Iterator[Tensor] | None = None) -> Any:
    """`value` with containers of its own, and with `tensors` (as `flat` lists them) if given.

    A step empties the lists that it is given (a ControlNet's results) and writes to its options.
    """
    return _rebuilt(value, (lambda one: one) if tensors is None else (lambda _: next(tensors)))


def _rebuilt(value: Any, tensor: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return tensor(value)
    if isinstance(value, dict):
        kept = (*_PATCHES, *_NOTES)
        return {k: v if k in kept else _rebuilt(v, tensor) for k, v in value.items()}
    if isinstance(value, list | tuple):
        inner = [_rebuilt(one, tensor) for one in value]
        if isinstance(value, list):
            return inner
        return type(value)(*inner) if hasattr(value, "_fields") else tuple(inner)
    return value


def without_patches(options: Any) -> bool:
    """Whether no other node has put code into a network's `transformer_options`."""
    return not any(found for name in _PATCHES for found in options.get(name, {}).values()) and (
        "optimized_attention_override" not in options
    )
