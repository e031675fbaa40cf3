"""The attention that ComfyUI computes itself, in slices of batch x heads and of queries.

It has no fused kernel anywhere: every slice keeps its scores in memory, and several copies of
them. ComfyUI sizes the slices by free memory, an XPU grants less than that at once.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from .attention_parts import assembled, can_be_split, cut, slices, wants_gradient
from .attention_plan import SCORE_BYTES, plan

if TYPE_CHECKING:
    import torch


def can_be_sliced(
    query: "torch.Tensor",
    key_t: "torch.Tensor",
    value: "torch.Tensor",
    mask: "torch.Tensor | None",
) -> bool:
    """Whether `sliced_attention` may take these: its shapes, and no gradient wanted of them."""
    return (
        query.dim() == key_t.dim() == value.dim() == 3
        and query.shape[0] == key_t.shape[0] == value.shape[0]
        and can_be_split(query, key_t.transpose(1, 2), value, mask, enable_gqa=False)
        and not wants_gradient(query, key_t, value, mask)
    )


def sliced_bytes(query: "torch.Tensor", key_t: "torch.Tensor", upcast_attention: bool) -> int:
    """The bytes of all scores of a call of `sliced_attention`."""
    return query.shape[:-1].numel() * key_t.shape[-1] * _sliced_width(query, upcast_attention)


def sliced_attention(
    original: Callable[..., "torch.Tensor"],
    query: "torch.Tensor",
    key_t: "torch.Tensor",
    value: "torch.Tensor",
    mask: "torch.Tensor | None" = None,
    upcast_attention: bool = False,
    *,
    limit: int,
) -> "torch.Tensor":
    """The host's `efficient_dot_product_attention`, in calls of at most `limit` bytes of scores.

    With b for batch x heads: query is [b, queries, e], key_t [b, e, keys], value [b, keys, ev],
    the mask, which is added to the scores, [b or 1, queries or 1, keys] or without the b; the
    result is [b, queries, ev]. `limit` (0 or more) counts the scores as the host makes them: in
    fp32 if `upcast_attention`, else in query's dtype. Raises what `original` raises.

    Each call is told to be one slice with all keys. The host's other way, which sums over parts
    of the keys, keeps a result for each part: it needs more memory, and is less exact in halfs.
    """
    batch, queries, _ = query.shape
    keys = key_t.shape[-1]
    chunks = plan(1, batch, queries, keys, _sliced_width(query, upcast_attention), limit)

    def one(b: slice, q: slice) -> "torch.Tensor":
        return original(
            query[b, q],
            key_t[b],
            value[b],
            query_chunk_size=q.stop - q.start,
            kv_chunk_size=keys,
            use_checkpoint=False,
            upcast_attention=upcast_attention,
            mask=None if mask is None else cut(mask, b, q),
        )

    if chunks is None:
        return one(slice(0, batch), slice(0, queries))
    places = itertools.product(slices(batch, chunks.heads), slices(queries, chunks.query_tokens))
    return assembled(query, ((place, one(*place)) for place in places))


def _sliced_width(query: "torch.Tensor", upcast_attention: bool) -> int:
    return SCORE_BYTES if upcast_attention else query.element_size()
