"""A limit on what a network's constructor may allocate, for sizes that a file dictates.

Architectures are recognised by their weights' names and shapes, so a small file can describe a
network of any size: a layer called `body.900000000`, or a weight [1000000, 0, 3, 3].
"""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

MOST_TIMES = 8
"""A network allocates at most so many times the bytes of its weights while it is made."""

SLACK = 1 << 30
"""Bytes that may come on top: tables, masks, parts that a checkpoint leaves out."""

MOST_LAYERS = 1 << 12
"""The largest number in a weight's name."""

_NUMBERS = re.compile(r"[0-9]+")

_FACTORIES = frozenset(
    (
        *("empty", "empty_strided", "zeros", "ones", "full", "rand", "randn", "randint"),
        *("new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full"),
    )
)


class OversizeError(ValueError):
    """Weights that describe a network far larger than themselves."""


def check_names(names: Iterable[str]) -> None:
    """Raise `OversizeError` where a name counts layers that nobody has."""
    for name in names:
        numbers = [part for part in _NUMBERS.findall(name) if len(part) > 3]
        if any(len(part) > 9 or int(part) > MOST_LAYERS for part in numbers):
            raise OversizeError(f"a weight is called {name[:80]!r}, and no network is so deep")


@contextmanager
def limited(weights_bytes: int) -> Iterator[None]:
    """While it lasts, tensors that are created may take `MOST_TIMES` as much and `SLACK`.

    Raises `OversizeError` before the allocation that would go beyond.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    left = MOST_TIMES * weights_bytes + SLACK

    class _Limited(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal left
            left -= _asked(func, args, kwargs or {})
            if left < 0:
                raise OversizeError(
                    "they describe a network that takes more than "
                    f"{(MOST_TIMES * weights_bytes + SLACK) / 2**20:.0f} MiB, and are "
                    f"{weights_bytes / 2**20:.0f} MiB themselves"
                )
            return func(*args, **(kwargs or {}))

    with _Limited():
        yield


def _asked(func: Any, args: Any, kwargs: Any) -> int:
    """Bytes of the tensor that a factory is asked for; 0 for other operators."""
    if func.overloadpacket.__name__ not in _FACTORIES:
        return 0
    sizes = [one for one in args if isinstance(one, list | tuple)]
    dtype = kwargs.get("dtype")
    return math.prod(sizes[0]) * (dtype.itemsize if dtype is not None else 4) if sizes else 0
