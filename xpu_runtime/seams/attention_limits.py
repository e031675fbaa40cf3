"""How large a matrix of attention scores may be, and the chunks that keep it so: arithmetic."""

from dataclasses import dataclass

MIB = 1 << 20

SCORE_BYTES = 4
"""Bytes of one score in torch's math path: it computes fp16 and bf16 scores in fp32
(`_scaled_dot_product_attention_math`, unless `allow_fp16_bf16_reduction_math_sdp`)."""

FREE_SHARE = 0.25
"""Share of the free memory that one matrix of scores may take.

The math path holds more than the scores at its peak. Measured on the emulated device, in
multiples of the fp32 scores: 2.25 without a mask (scores, softmax's result, one byte each for
the rows that are masked entirely), 2.75 with a causal or a broadcast boolean mask, and 3.25
with a boolean mask of the scores' own size, which torch turns into floats. 4 leaves room for
the result and for fp32 copies of query, key and value.
"""

SMALLEST_LIMIT = 16 * MIB
"""`score_limit` never goes below this many bytes, whatever is said to be free.

Smaller calls save nothing that matters, and each costs a launch of a dozen kernels. If even
this does not fit, an out-of-memory error is the truth.
"""

UNCHECKED_BYTES = 64 * MIB
"""Calls whose scores take at most this many bytes go through without a look at memory.

At 4 times that (see FREE_SHARE) they stay within the 400 MB that ComfyUI keeps unused, and
far below any card's largest allocation. Above it a call takes milliseconds, so that asking
the driver for free memory, tens of microseconds, is lost in it.
"""

# torch's caching allocator asks the driver for whole multiples of this many bytes when a
# block is larger than 10 MiB (kRoundLarge, c10/core/CachingDeviceAllocator.h).
_ALLOCATION_STEP = 2 * MIB


@dataclass(frozen=True)
class Chunks:
    """How much of each dimension one call takes. A dimension's last chunk may be smaller."""

    batch: int
    heads: int
    query_tokens: int


def plan_chunks(
    batch: int,
    heads: int,
    query_tokens: int,
    key_tokens: int,
    bytes_per_element: int,
    limit_bytes: int,
) -> Chunks | None:
    """Chunks whose scores take at most `limit_bytes`, or None if one call does.

    All counts are 0 or more. The batch is split first, then heads, then queries, each into
    chunks as even as possible; keys never, so a single query's scores are the least there is,
    even when they exceed the limit.
    """
    row = key_tokens * bytes_per_element
    if batch * heads * query_tokens * row <= limit_bytes:
        return None
    if (rows := limit_bytes // (heads * query_tokens * row)) >= 1:
        return Chunks(_even(batch, rows), heads, query_tokens)
    if (rows := limit_bytes // (query_tokens * row)) >= 1:
        return Chunks(1, _even(heads, rows), query_tokens)
    return Chunks(1, 1, _even(query_tokens, max(1, limit_bytes // row)))


def _even(total: int, largest: int) -> int:
    """The chunk that needs no more calls than `largest` does, but leaves no small rest."""
    calls = -(-total // largest)
    return -(-total // calls)


def score_limit(max_allocation_bytes: int, free_bytes: int) -> int:
    """The most bytes that one matrix of scores may take on a device.

    `max_allocation_bytes` (above 0) is the largest single allocation that the device grants,
    `free_bytes` (0 or more) what is free now, cached blocks included. The answer is the
    smaller of the first, in whole steps of torch's allocator, and FREE_SHARE of the second,
    of which at least SMALLEST_LIMIT.
    """
    steps = max_allocation_bytes // _ALLOCATION_STEP * _ALLOCATION_STEP
    share = max(SMALLEST_LIMIT, int(free_bytes * FREE_SHARE))
    return min(steps or max_allocation_bytes, share)


def has_fused_attention(torch_version: str) -> bool:
    """Whether this torch has a fused attention kernel for XPUs: 2.7 and later.

    https://github.com/pytorch/pytorch/pull/147614 turned oneDNN's on, in 2.7. Before it, every
    call keeps its scores in memory. `torch_version` is `torch.__version__`: "2.6.0+xpu".
    """
    major, minor = torch_version.split(".")[:2]
    return (int(major), int(minor)) >= (2, 7)
