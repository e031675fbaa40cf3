"""Scaled dot product attention that never asks for a larger matrix of scores than there may be.

Where the card has no fused kernel for a call, torch keeps the scores, batch x heads x queries
x keys, in memory. At 2048x2048 pixels SDXL's are tens of GiB, more than an Arc card grants in
one allocation. Attention is independent for every batch, head and query, so the same numbers
come from a few smaller calls of the same function.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .attention_parts import Place, assembled, can_be_split, cut, slices, wants_gradient
from .attention_plan import SCORE_BYTES, Plan, plan

if TYPE_CHECKING:
    import torch


def bounded_sdpa(
    original: Callable[..., "torch.Tensor"],
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attn_mask: "torch.Tensor | None" = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    limit: int,
) -> "torch.Tensor":
    """`torch.nn.functional.scaled_dot_product_attention` in calls of at most `limit` bytes.

    query is [..., heads, queries, e], key [..., heads, keys, e], value [..., heads, keys, ev],
    the mask bool or float and broadcastable to [..., heads, queries, keys]; the result is
    [..., heads, queries, ev], laid out as query is. `limit` (0 or more) counts the scores of
    one call, SCORE_BYTES each (8 in fp64). Raises what `original` raises.

    `original` is called once with everything when that is within the limit, when the shapes
    are none of these, with dropout (chunks would draw other random numbers), and when a
    gradient is wanted (it would keep the scores of all chunks, so that nothing is gained).
    """
    mask = as_rank_two(attn_mask, query)
    call = _Call(original, is_causal, scale, enable_gqa, limit)
    if (
        _plan_for(query, key, limit) is None  # first: it is what most calls end with
        or dropout_p != 0.0
        or (is_causal and mask is not None)
        or not can_be_split(query, key, value, mask, enable_gqa)
        or wants_gradient(query, key, value, mask)
    ):
        return call(query, key, value, mask, is_causal, dropout_p)
    return assembled(query, _parts(call, query, key, value, mask))


def as_rank_two(mask: "torch.Tensor | None", query: "torch.Tensor") -> "torch.Tensor | None":
    """A [1, 1, queries, keys] mask as [queries, keys], which broadcasts to the same; else `mask`.

    oneDNN's fused kernel faults on some rank-4 masks and ends the process:
    https://github.com/pytorch/pytorch/issues/195319
    """
    # Of a query of rank 3 such a mask makes a result of rank 4.
    if mask is None or mask.dim() != 4 or query.dim() < 4:
        return mask
    return mask[0, 0] if mask.shape[0] == mask.shape[1] == 1 else mask


@dataclass(frozen=True)
class _Call:
    """`original`, and the arguments that are the same for every part."""

    original: Callable[..., "torch.Tensor"]
    is_causal: bool
    scale: float | None
    enable_gqa: bool
    limit: int

    def __call__(
        self,
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        mask: "torch.Tensor | None",
        is_causal: bool,
        dropout_p: float = 0.0,
    ) -> "torch.Tensor":
        options: dict[str, Any] = {"dropout_p": dropout_p, "is_causal": is_causal}
        if self.scale is not None:
            options["scale"] = self.scale
        if self.enable_gqa:  # torch before 2.5 does not know it
            options["enable_gqa"] = True
        return self.original(query, key, value, attn_mask=as_rank_two(mask, query), **options)


def _plan_for(query: "torch.Tensor", key: "torch.Tensor", limit: int) -> Plan | None:
    if query.dim() < 2 or key.dim() < 2:
        return None  # torch says what is wrong with them
    heads = query.shape[-3] if query.dim() > 2 else 1
    batch = query.shape[:-3].numel()
    size = max(SCORE_BYTES, query.element_size())
    return plan(batch, heads, query.shape[-2], key.shape[-2], size, limit)


def _parts(
    call: _Call,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    mask: "torch.Tensor | None",
) -> "Iterator[tuple[Place, torch.Tensor]]":
    """Where a part of the result belongs, and the part, one after the other."""
    if query.dim() < 4:
        for where, part in _parts(call, query[None], key[None], value[None], mask):
            yield where[1:], part[0]
        return
    if query.dim() > 4:
        for i in range(query.shape[0]):
            own = mask
            if mask is not None and mask.dim() == query.dim():
                own = mask[i if mask.shape[0] > 1 else 0]
            index = (tensor[i if tensor.shape[0] > 1 else 0] for tensor in (key, value))
            for where, part in _parts(call, query[i], *index, own):
                yield (i, *where), part
        return
    yield from _chunks(call, query, key, value, mask)


def _chunks(
    call: _Call,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    mask: "torch.Tensor | None",
) -> "Iterator[tuple[Place, torch.Tensor]]":
    """`_parts` of tensors of rank 4."""
    batch, heads, queries, _ = query.shape
    group = heads // key.shape[1] if call.enable_gqa else 1
    chunks = _plan_for(query, key, call.limit) or Plan(batch, heads, queries)
    places = itertools.product(
        slices(batch, chunks.batch),
        slices(heads, _whole_groups(chunks.heads, group)),
        slices(queries, chunks.query_tokens),
    )
    for place in places:
        b, h, q = place
        kv = slice(h.start // group, -(-h.stop // group))
        keys = slice(0, key.shape[-2])
        own = None if mask is None else cut(mask, b, h, q)
        causal = call.is_causal
        if causal and chunks.query_tokens < queries:
            # torch's causal mask starts top left: query i sees keys 0 to i, and so what
            # comes after the last query of this chunk need not be computed at all.
            causal, keys = False, slice(0, min(q.stop, key.shape[-2]))
            own = _causal_mask(q, keys.stop, query.device)
        part = (cut(tensor, b, kv, keys) for tensor in (key, value))
        yield place, call(query[place], *part, own, causal)


def _whole_groups(heads: int, group: int) -> int:
    """At most `heads`, such that no chunk holds parts of two groups that share a key head."""
    if heads >= group:
        return heads - heads % group
    return max(size for size in range(1, heads + 1) if group % size == 0)


def _causal_mask(queries: slice, keys: int, device: "torch.device") -> "torch.Tensor":
    import torch

    rows = torch.arange(queries.start, queries.stop, device=device)
    return rows[:, None] >= torch.arange(keys, device=device)
