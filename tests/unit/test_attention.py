"""Chunked attention gives the result of one call, and never asks for more than it may."""

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from comfyui_ipex.xpu_runtime.seams.attention_in_parts import as_rank_two, bounded_sdpa

sdpa = functional.scaled_dot_product_attention
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 1e-3}


class Recorder:
    """Stands in for SDPA, computes with it, and remembers every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.calls.append((args, kwargs))
        return sdpa(*args, **kwargs)

    def largest(self) -> int:
        """Bytes of the largest matrix of scores, in fp32."""
        return max(4 * args[0].shape[:-1].numel() * args[1].shape[-2] for args, _ in self.calls)


def randoms(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def assert_same(result: torch.Tensor, expected: torch.Tensor) -> None:
    assert result.shape == expected.shape and result.dtype == expected.dtype
    difference = torch.linalg.vector_norm(result.double() - expected.double())
    scale = torch.linalg.vector_norm(expected.double())
    assert difference <= TOLERANCE[expected.dtype] * scale


def check(limit: int, *tensors: torch.Tensor, **options: Any) -> Recorder:
    """Compare with one call of SDPA; the calls that were made."""
    recorder = Recorder()
    assert_same(bounded_sdpa(recorder, *tensors, limit=limit, **options), sdpa(*tensors, **options))
    assert len(recorder.calls) > 1
    assert recorder.largest() <= limit
    return recorder


# Of 2 x 4 x 24 x 20 scores in fp32: in batches, heads, queries, single queries.
LIMITS = [4 * 4 * 24 * 20, 3 * 4 * 24 * 20, 4 * 7 * 20, 4 * 20]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dtypes(limit: int, dtype: torch.dtype) -> None:
    tensors = randoms((2, 4, 24, 8), (2, 4, 20, 8), (2, 4, 20, 8), dtype=dtype)
    if dtype == torch.float64:
        limit *= 2
    check(limit, *tensors)


MASKS = [
    (24, 20),
    (1, 20),
    (24, 1),
    (4, 24, 20),
    (1, 24, 20),
    (4, 1, 20),
    (2, 4, 24, 20),
    (1, 1, 24, 20),
    (2, 1, 24, 20),
    (1, 4, 24, 1),
    (2, 1, 1, 20),
    (1, 1, 1, 1),
]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("shape", MASKS, ids=str)
@pytest.mark.parametrize("boolean", [True, False])
def test_masks(limit: int, shape: tuple[int, ...], boolean: bool) -> None:
    *tensors, mask = randoms((2, 4, 24, 8), (2, 4, 20, 8), (2, 4, 20, 8), shape)
    check(limit, *tensors, attn_mask=mask > -0.5 if boolean else mask)


@pytest.mark.parametrize("limit", LIMITS)
def test_rows_that_are_masked_entirely(limit: int) -> None:
    tensors = randoms((2, 4, 24, 8), (2, 4, 20, 8), (2, 4, 20, 8))
    mask = torch.ones(24, 20, dtype=torch.bool)
    mask[5:9] = False
    check(limit, *tensors, attn_mask=mask)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("queries", "keys"), [(24, 20), (20, 24), (24, 24), (24, 3)])
def test_causal_is_top_left(limit: int, queries: int, keys: int) -> None:
    tensors = randoms((2, 4, queries, 8), (2, 4, keys, 8), (2, 4, keys, 8))
    check(max(4 * keys, min(limit, 4 * 4 * queries * keys)), *tensors, is_causal=True)


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("heads_a_call", [1, 2, 3, 4, 5, 7, 8, 12])
@pytest.mark.parametrize("causal", [False, True])
def test_grouped_queries(kv_heads: int, heads_a_call: int, causal: bool) -> None:
    tensors = randoms((2, 12, 5, 8), (2, kv_heads, 6, 8), (2, kv_heads, 6, 4))
    check(heads_a_call * 5 * 6 * 4, *tensors, enable_gqa=True, is_causal=causal)
    check(2 * 6 * 4, *tensors, enable_gqa=True, is_causal=causal, scale=0.5)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("value_width", [3, 8, 11])
def test_scale_and_width_of_values(limit: int, scale: float | None, value_width: int) -> None:
    tensors = randoms((2, 4, 24, 8), (2, 4, 20, 8), (2, 4, 20, value_width))
    check(limit, *tensors, scale=scale)


@pytest.mark.parametrize("limit", [4 * 24 * 20, 4 * 7 * 20, 4 * 20])
@pytest.mark.parametrize("leading", [(), (6,), (3, 2, 4), (2, 1, 3, 2)], ids=str)
@pytest.mark.parametrize("masked", [None, "plain", "full"])
@pytest.mark.parametrize("causal", [False, True])
def test_ranks(limit: int, leading: tuple[int, ...], masked: str | None, causal: bool) -> None:
    shape = leading if masked == "full" else ()
    *tensors, mask = randoms(
        (*leading, 24, 8), (*leading, 20, 8), (*leading, 20, 8), (*shape, 24, 20)
    )
    if (causal and masked) or (limit == 4 * 24 * 20 and not leading):
        return
    check(limit, *tensors, attn_mask=mask if masked else None, is_causal=causal)


def test_keys_that_are_broadcast() -> None:
    query, key, value = randoms((3, 4, 24, 8), (1, 4, 20, 8), (3, 1, 20, 8))
    check(4 * 7 * 20, query, key, value)
    check(4 * 4 * 24 * 20, query, key, value)


def test_random_shapes() -> None:
    choose = random.Random(20)
    for _ in range(150):
        batch, heads, queries, keys = (choose.randint(1, top) for top in (3, 6, 40, 40))
        query, key, value, mask = randoms(
            (batch, queries, heads, 4),
            (batch, keys, heads, 4),
            (batch, keys, heads, 5),
            tuple(choose.choice((1, size)) for size in (batch, heads, queries, keys)),
        )
        scores = 4 * batch * heads * queries * keys
        if scores == 4 * keys:
            continue
        limit = choose.randint(4 * keys, scores - 1)
        tensors = [tensor.transpose(1, 2) for tensor in (query, key, value)]
        recorder = check(limit, *tensors, attn_mask=choose.choice((None, mask, mask > 0)))
        fewest = -(-scores // limit)
        assert len(recorder.calls) <= 4 * fewest + batch * heads


def test_the_result_has_the_layout_of_the_query() -> None:
    query, key, value = (t.transpose(1, 2) for t in randoms(*[(2, 24, 4, 8)] * 3))
    result = bounded_sdpa(sdpa, query, key, value, limit=4 * 7 * 24)
    assert result.stride() == query.stride()
    assert result.transpose(1, 2).is_contiguous()


def test_a_plain_mask_goes_in_as_rank_two_whole_and_in_parts() -> None:
    query, key, value, mask = randoms(*[(2, 4, 24, 8)] * 3, (1, 1, 24, 24))
    recorder = Recorder()
    for limit in (1 << 20, 4 * 7 * 24):
        bounded_sdpa(recorder, query, key, value, mask, limit=limit)
    assert {kwargs["attn_mask"].dim() for _, kwargs in recorder.calls} == {2}
    assert as_rank_two(None, query) is None
    assert as_rank_two(mask[0, 0], query).dim() == 2
    assert as_rank_two(mask, query[0]) is mask
    assert as_rank_two(mask.expand(2, 1, 24, 24), query).dim() == 4


@pytest.mark.parametrize("options", [{"dropout_p": 0.5}, {}])
def test_dropout_and_gradients_stay_one_call(options: dict[str, Any]) -> None:
    tensors = randoms(*[(2, 4, 24, 8)] * 3)
    if not options:
        tensors[1].requires_grad_()
    recorder = Recorder()
    torch.manual_seed(3)
    result = bounded_sdpa(recorder, *tensors, limit=100, **options)
    assert len(recorder.calls) == 1
    torch.manual_seed(3)
    assert torch.equal(result, sdpa(*tensors, **options))


def test_without_gradient_mode_parameters_are_split() -> None:
    tensors = [tensor.requires_grad_() for tensor in randoms(*[(2, 4, 24, 8)] * 3)]
    with torch.no_grad():
        check(4 * 7 * 24, *tensors)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        ([(2, 4, 24, 8), (2, 4, 20, 6), (2, 4, 20, 6)], {}),
        ([(2, 4, 24, 8), (2, 3, 20, 8), (2, 3, 20, 8)], {"enable_gqa": True}),
        ([(2, 4, 24, 8), (2, 2, 20, 8), (2, 2, 20, 8)], {}),
        ([(8,), (8,), (8,)], {}),
        ([(2, 4, 24, 8)] * 3, {"attn_mask": torch.ones(25, 24)}),
        ([(2, 4, 24, 8)] * 3, {"attn_mask": torch.ones(24, 24), "is_causal": True}),
    ],
    ids=["width", "groups", "heads", "rank", "mask", "causal and mask"],
)
def test_what_is_wrong_is_torchs_own_error(
    shapes: list[tuple[int, ...]], options: dict[str, Any]
) -> None:
    tensors = randoms(*shapes)
    with pytest.raises((RuntimeError, IndexError)) as expected:
        sdpa(*tensors, **options)
    with pytest.raises(type(expected.value)) as raised:
        bounded_sdpa(sdpa, *tensors, limit=100, **options)
    assert str(raised.value) == str(expected.value)
