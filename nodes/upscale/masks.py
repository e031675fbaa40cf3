"""Attention masks of window transformers, made once for a size instead of in every block.

SwinIR, Swin2SR, DAT, RGT, HAT, DRCT and ATD make, for pictures that have not the size they were
trained on, the same masks on the CPU again for each block and each call, in fp32: that takes
longer than the network itself on a GPU, and half precision then fails.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

_MAKER = "calculate_mask"
"""The name that spandrel's networks give the method, after Swin Transformer."""


@contextlib.contextmanager
def share_masks(network: nn.Module) -> Iterator[None]:
    """Inside, `network` makes each mask once; it lies on the weights' device, in their dtype.

    Blocks with the same settings share it. Nothing is kept afterwards.
    """
    masks: dict[Any, Any] = {}
    makers = [part for part in network.modules() if callable(getattr(part, _MAKER, None))]
    for part in makers:
        setattr(part, _MAKER, functools.partial(_made_once, masks, part, getattr(part, _MAKER)))
    try:
        yield
    finally:
        for part in makers:
            delattr(part, _MAKER)


def _made_once(
    masks: dict[Any, Any], part: nn.Module, make: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    weight = next(part.parameters())
    key = (type(part), _settings(part), repr(args), repr(kwargs), weight.device, weight.dtype)
    if key not in masks:
        masks[key] = _like(make(*args, **kwargs), weight)
    return masks[key]


def _settings(part: nn.Module) -> str:
    """What distinguishes two blocks of one class: sizes of windows, and by how much they move."""
    plain = int | float | str | list | tuple
    named = {name: value for name, value in vars(part).items() if isinstance(value, plain)}
    return repr(sorted(named.items()))


def _like(masks: Any, weight: Tensor) -> Any:
    if isinstance(masks, Tensor):
        return masks.to(weight.device, weight.dtype)
    return type(masks)(_like(mask, weight) for mask in masks)
