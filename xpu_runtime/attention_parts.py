"""Tensors of attention in parts: what may be split, how it is cut and put together again."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Place = tuple[int | slice, ...]
"""An index into the result."""


def wants_gradient(*tensors: "torch.Tensor | None") -> bool:
    """Whether autograd would keep what is computed of these."""
    import torch

    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def can_be_split(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    mask: "torch.Tensor | None",
    enable_gqa: bool,
) -> bool:
    """Whether every dimension of every tensor is the scores' own, or 1, or grouped heads."""
    if not 2 <= query.dim() == key.dim() == value.dim():
        return False
    keys = key.shape[-2]
    if value.shape[-2] != keys or key.shape[-1] != query.shape[-1]:
        return False
    leading = query.shape[:-2]
    for tensor in (key, value):
        mine = tensor.shape[:-2]
        if enable_gqa and leading:
            if mine[-1] != key.shape[-3] or mine[-1] == 0 or leading[-1] % mine[-1]:
                return False
            mine = (*mine[:-1], leading[-1])
        if any(size not in (1, whole) for size, whole in zip(mine, leading, strict=True)):
            return False
    if mask is None:
        return True
    scores = (*query.shape[:-1], keys)
    return mask.dim() <= len(scores) and all(
        size in (1, whole)
        for size, whole in zip(reversed(mask.shape), reversed(scores), strict=False)
    )


def slices(total: int, chunk: int) -> list[slice]:
    """The ranges of `chunk` (the last may be smaller) that make up `total`."""
    return [slice(start, min(start + chunk, total)) for start in range(0, total, chunk)]


def cut(tensor: "torch.Tensor", *ranges: slice) -> "torch.Tensor":
    """Ranges of the dimensions before the last; one of size 1 is for all, and stays."""
    present = ranges[max(0, len(ranges) + 1 - tensor.dim()) :]
    sizes = tensor.shape[-1 - len(present) : -1]
    cuts = (slice(None) if size == 1 else part for part, size in zip(present, sizes, strict=True))
    return tensor[(..., *cuts, slice(None))]


def assembled(
    query: "torch.Tensor", parts: "Iterator[tuple[Place, torch.Tensor]]"
) -> "torch.Tensor":
    """The result of which these are all the parts, one or more, as they come."""
    where, part = next(parts)  # there is one: without scores there was no plan
    result = _empty_result(query, part)
    result[where] = part
    for where, part in parts:
        result[where] = part
    return result


def _empty_result(query: "torch.Tensor", part: "torch.Tensor") -> "torch.Tensor":
    """Room for the result, with the order of query's dimensions in memory, as kernels do it.

    ComfyUI's [b, heads, queries, e] is a view of [b, queries, heads, e], to which it returns
    without a copy. The dtype is a part's, which autocast may have changed.
    """
    import torch

    leading = sorted(range(query.dim() - 1), key=query.stride, reverse=True)
    return torch.empty_permuted(
        (*query.shape[:-1], part.shape[-1]),
        (*leading, query.dim() - 1),
        dtype=part.dtype,
        device=part.device,
    )
