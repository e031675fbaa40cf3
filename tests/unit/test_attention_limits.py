"""The arithmetic of chunks: within the limit, complete, and no more calls than needed."""

import itertools
import random

import pytest
from comfyui_ipex.xpu_runtime.seams.attention_limits import (
    SMALLEST_LIMIT,
    Chunks,
    has_fused_attention,
    plan_chunks,
    score_limit,
)

MIB = 1 << 20
GIB = 1 << 30


def assert_sound(sizes: tuple[int, int, int], keys: int, width: int, limit: int) -> None:
    """What holds for all chunks."""
    batch, heads, queries = sizes
    made = plan_chunks(batch, heads, queries, keys, width, limit)
    if batch * heads * queries * keys * width <= limit:
        assert made is None
        return
    assert made is not None
    chunk = (made.batch, made.heads, made.query_tokens)
    assert all(1 <= part <= whole for part, whole in zip(chunk, sizes, strict=True))
    row = keys * width
    taken = made.batch * made.heads * made.query_tokens * row
    assert taken <= max(limit, row)
    # A dimension is split only when all before it are down to one.
    if made.heads < heads or made.query_tokens < queries:
        assert made.batch == 1
    if made.query_tokens < queries:
        assert made.heads == 1
    # One call fewer along the split dimension would break the limit.
    for axis, (part, whole) in enumerate(zip(chunk, sizes, strict=True)):
        calls = -(-whole // part)
        if calls > 1 and all(chunk[before] == 1 for before in range(axis)):
            larger = -(-whole // (calls - 1))
            rest = row
            for after in range(axis + 1, 3):
                rest *= chunk[after]
            if chunk[axis + 1 :] == sizes[axis + 1 :]:
                assert larger * rest > limit


def test_every_small_plan_is_sound() -> None:
    sizes = (1, 2, 3, 5)
    for batch, heads, queries, keys in itertools.product(sizes, repeat=4):
        for limit in range(0, batch * heads * queries * keys * 2 + 2):
            assert_sound((batch, heads, queries), keys, 2, limit)


def test_random_plans_of_real_sizes_are_sound() -> None:
    choose = random.Random(4)
    for _ in range(5000):
        batch, heads = choose.randint(1, 32), choose.randint(1, 64)
        queries, keys = choose.randint(1, 200_000), choose.randint(1, 200_000)
        assert_sound(
            (batch, heads, queries), keys, choose.choice((2, 4, 8)), choose.randint(0, 8 * GIB)
        )


@pytest.mark.parametrize("empty", range(4))
def test_nothing_to_compute_needs_no_chunks(empty: int) -> None:
    sizes = [2, 3, 4, 5]
    sizes[empty] = 0
    assert plan_chunks(*sizes, 4, 0) is None


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        # SD 1.5 at 512x512, conditional and unconditional: 1 GiB in fp32.
        ((2, 8, 4096, 4096), 1 * GIB, None),
        ((2, 8, 4096, 4096), 1 * GIB - 1, Chunks(1, 8, 4096)),
        ((2, 8, 4096, 4096), 256 * MIB, Chunks(1, 4, 4096)),
        ((2, 8, 4096, 4096), 63 * MIB, Chunks(1, 1, 2048)),  # not 4032 and a rest of 64
        # SDXL at 2048x2048, and the attention of a VAE at the same size.
        ((2, 10, 16384, 16384), 4 * GIB, Chunks(1, 4, 16384)),
        ((1, 1, 65536, 65536), 4 * GIB, Chunks(1, 1, 16384)),
        ((1, 1, 3, 1 << 40), 4 * GIB, Chunks(1, 1, 1)),
    ],
)
def test_known_models(sizes: tuple[int, ...], limit: int, expected: Chunks | None) -> None:
    assert plan_chunks(*sizes, 4, limit) == expected


@pytest.mark.parametrize(
    ("largest", "free", "limit"),
    [
        (4 * GIB, 64 * GIB, 4 * GIB),
        (4 * GIB, 8 * GIB, 2 * GIB),
        (4 * GIB, 0, SMALLEST_LIMIT),
        # What Level Zero calls 4 GiB is a little less, and torch's allocator rounds up.
        (4 * GIB - 8192, 64 * GIB, 4 * GIB - 2 * MIB),
        (1 * MIB, 8 * GIB, 1 * MIB),
        (8 * MIB, 0, 8 * MIB),
    ],
)
def test_the_limit_of_a_device(largest: int, free: int, limit: int) -> None:
    assert score_limit(largest, free) == limit


@pytest.mark.parametrize(
    ("version", "fused"),
    [
        ("2.4.1+cu121", False),
        ("2.6.0+xpu", False),
        ("2.7.0+xpu", True),
        ("2.7.0a0+git1234567", True),
        ("2.10.0.dev20251208+xpu", True),
        ("3.0.0", True),
        ("1.13.1", False),
    ],
)
def test_the_first_torch_with_fused_attention_on_xpus(version: str, fused: bool) -> None:
    assert has_fused_attention(version) is fused
