"""Attention whose matrix of scores never exceeds a limit, in parts that are put together again.

Where the card has no fused kernel for a call, torch keeps the scores, batch x heads x queries
x keys, in memory. At 2048x2048 pixels SDXL's are tens of GiB, more than an Arc card grants in
one allocation. Attention is independent for every batch, head and query, so the same numbers
come from a few smaller calls of the same function: `bounded_sdpa`.

ComfyUI's own attention has no fused kernel anywhere: every slice keeps its scores in memory,
and several copies of them. ComfyUI sizes the slices by free memory, an XPU grants less than
that at once: `sliced_attention`.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from .attention_limits import SCORE_BYTES, Chunks, plan_chunks

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Index = tuple[int | slice, ...]
"""An index into the result."""


def bounded_sdpa(
    original: Callable[..., "Tensor"],
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attn_mask: "Tensor | None" = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    limit: int,
) -> "Tensor":
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
        _chunks_for(query, key, limit) is None  # first: it is what most calls end with
        or dropout_p != 0.0
        or (is_causal and mask is not None)
        or not can_be_split(query, key, value, mask, enable_gqa)
        or wants_gradient(query, key, value, mask)
    ):
        return call(query, key, value, mask, is_causal, dropout_p)
    return assemble(query, _parts(call, query, key, value, mask))


def as_rank_two(mask: "Tensor | None", query: "Tensor") -> "Tensor | None":
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

    original: Callable[..., "Tensor"]
    is_causal: bool
    scale: float | None
    enable_gqa: bool
    limit: int

    def __call__(
        self,
        query: "Tensor",
        key: "Tensor",
        value: "Tensor",
        mask: "Tensor | None",
        is_causal: bool,
        dropout_p: float = 0.0,
    ) -> "Tensor":
        options: dict[str, Any] = {"dropout_p": dropout_p, "is_causal": is_causal}
        if self.scale is not None:
            options["scale"] = self.scale
        if self.enable_gqa:  # torch before 2.5 does not know it
            options["enable_gqa"] = True
        return self.original(query, key, value, attn_mask=as_rank_two(mask, query), **options)


def _chunks_for(query: "Tensor", key: "Tensor", limit: int) -> Chunks | None:
    if query.dim() < 2 or key.dim() < 2:
        return None  # torch says what is wrong with them
    heads = query.shape[-3] if query.dim() > 2 else 1
    batch = query.shape[:-3].numel()
    size = max(SCORE_BYTES, query.element_size())
    return plan_chunks(batch, heads, query.shape[-2], key.shape[-2], size, limit)


def _parts(
    call: _Call, query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None"
) -> "Iterator[tuple[Index, Tensor]]":
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
            keys, values = (tensor[i if tensor.shape[0] > 1 else 0] for tensor in (key, value))
            for where, part in _parts(call, query[i], keys, values, own):
                yield (i, *where), part
        return
    yield from _chunks(call, query, key, value, mask)


def _chunks(
    call: _Call, query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None"
) -> "Iterator[tuple[Index, Tensor]]":
    """`_parts` of tensors of rank 4."""
    batch, heads, queries, _ = query.shape
    group = heads // key.shape[1] if call.enable_gqa else 1
    chunks = _chunks_for(query, key, call.limit) or Chunks(batch, heads, queries)
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
        k, v = (cut(tensor, b, kv, keys) for tensor in (key, value))
        yield place, call(query[place], k, v, own, causal)


def _whole_groups(heads: int, group: int) -> int:
    """At most `heads`, such that no chunk holds parts of two groups that share a key head."""
    if heads >= group:
        return heads - heads % group
    return max(size for size in range(1, heads + 1) if group % size == 0)


def _causal_mask(queries: slice, keys: int, device: "torch.device") -> "Tensor":
    import torch

    rows = torch.arange(queries.start, queries.stop, device=device)
    return rows[:, None] >= torch.arange(keys, device=device)


def can_be_sliced(query: "Tensor", key_t: "Tensor", value: "Tensor", mask: "Tensor | None") -> bool:
    """Whether `sliced_attention` may take these: its shapes, and no gradient wanted of them."""
    return (
        query.dim() == key_t.dim() == value.dim() == 3
        and query.shape[0] == key_t.shape[0] == value.shape[0]
        and can_be_split(query, key_t.transpose(1, 2), value, mask, enable_gqa=False)
        and not wants_gradient(query, key_t, value, mask)
    )


def sliced_bytes(query: "Tensor", key_t: "Tensor", upcast_attention: bool) -> int:
    """The bytes of all scores of a call of `sliced_attention`."""
    return query.shape[:-1].numel() * key_t.shape[-1] * _sliced_width(query, upcast_attention)


def sliced_attention(
    original: Callable[..., "Tensor"],
    query: "Tensor",
    key_t: "Tensor",
    value: "Tensor",
    mask: "Tensor | None" = None,
    upcast_attention: bool = False,
    *,
    limit: int,
) -> "Tensor":
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
    chunks = plan_chunks(1, batch, queries, keys, _sliced_width(query, upcast_attention), limit)

    def one(b: slice, q: slice) -> "Tensor":
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
    return assemble(query, ((place, one(*place)) for place in places))


def _sliced_width(query: "Tensor", upcast_attention: bool) -> int:
    return SCORE_BYTES if upcast_attention else query.element_size()


def wants_gradient(*tensors: "Tensor | None") -> bool:
    """Whether autograd would keep what is computed of these."""
    import torch

    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def can_be_split(
    query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None", enable_gqa: bool
) -> bool:
    """Whether every dimension of every tensor is the scores' own, or 1, or grouped heads."""
    if not 2 <= query.dim() == key.dim() == value.dim():
        return False
    keys = key.shape[-2]
    if value.shape[-2] != keys or key.shape[-1] != query.shape[-1]:
        return False
    leading = query.shape[:-2]
    for tensor in (key, value):
        mine: tuple[int, ...] = tensor.shape[:-2]
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


def cut(tensor: "Tensor", *ranges: slice) -> "Tensor":
    """Ranges of the dimensions before the last; one of size 1 is for all, and stays."""
    present = ranges[max(0, len(ranges) + 1 - tensor.dim()) :]
    sizes = tensor.shape[-1 - len(present) : -1]
    everything = slice(None)
    cuts = [everything if size == 1 else part for part, size in zip(present, sizes, strict=True)]
    index: tuple[slice | EllipsisType, ...] = (..., *cuts, everything)
    return tensor[index]


def assemble(query: "Tensor", parts: "Iterator[tuple[Index, Tensor]]") -> "Tensor":
    """The result of which these are all the parts, one or more, as they come."""
    where, part = next(parts)  # there is one: without scores there was no plan
    result = _empty_result(query, part)
    result[where] = part
    for where, part in parts:
        result[where] = part
    return result


def _empty_result(query: "Tensor", part: "Tensor") -> "Tensor":
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
