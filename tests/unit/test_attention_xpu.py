"""Attention on emulated cards: what is asked of their memory, and what is left alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from comfyui_ipex.xpu_runtime.seams.attention import scaled_dot_product_attention
from comfyui_ipex.xpu_runtime.seams.attention_in_parts import bounded_sdpa
from comfyui_ipex.xpu_runtime.seams.attention_limits import UNCHECKED_BYTES, score_limit
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

MIB = 1 << 20
GIB = 1 << 30
Make = Callable[..., EmulatedXpu]

sdpa = functional.scaled_dot_product_attention


def card(make: Make, attention: str = "math", **changes: Any) -> EmulatedXpu:
    return make([DeviceSpec(A770, **changes)], attention=attention)


def limit_of_the_card(device: torch.device) -> int:
    """As the runtime will: the smaller of an allocation limit of 64 MiB and free memory."""
    return score_limit(64 * MIB, torch.xpu.mem_get_info(device)[0])


def tensors(
    *shape: int, dtype: torch.dtype = torch.float32, device: str = "xpu"
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    made = [torch.randn(shape, generator=generator) for _ in range(3)]
    return [tensor.to(device, dtype) for tensor in made]


def never(device: torch.device) -> int:
    raise AssertionError(f"{device} was asked for its memory")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "full bool", "float"])
def test_no_allocation_exceeds_the_cards_limit(
    emulated_xpu: Make, dtype: torch.dtype, kind: str
) -> None:
    emulated = card(emulated_xpu, max_allocation=64 * MIB)
    inputs = tensors(1, 4, 2304, 8, dtype=dtype)
    options: dict[str, Any] = {}
    if kind == "causal":
        options["is_causal"] = True
    elif kind != "plain":
        shape = (1, 4, 2304, 2304) if kind == "full bool" else (1, 1, 2304, 2304)
        mask = torch.ones(shape, dtype=torch.bool).tril(5).to("xpu")
        options["attn_mask"] = torch.zeros(shape).to("xpu", dtype) if kind == "float" else mask
    with pytest.raises(torch.OutOfMemoryError):
        sdpa(*inputs, **options)
    emulated.reset_counters()
    result = scaled_dot_product_attention(limit_of_the_card)(sdpa)(*inputs, **options)
    counters = emulated.devices[0].counters()
    assert counters["ooms"] == 0
    assert counters["h2d"]["count"] == counters["d2h"]["count"] == counters["items"] == 0
    emulated.devices[0].change(max_allocation=0)
    expected = sdpa(*inputs, **options)
    difference = (result.float() - expected.float()).norm() / expected.float().norm()
    assert difference.item() <= (1e-5 if dtype == torch.float32 else 1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_a_share_of_free_memory_is_enough(
    emulated_xpu: Make, dtype: torch.dtype, masked: bool
) -> None:
    """The whole call, masks turned to floats included, fits in what was free before it."""
    emulated = card(emulated_xpu)
    inputs = tensors(1, 8, 2048, 8, dtype=dtype)
    mask = torch.ones(1, 8, 2048, 2048, dtype=torch.bool, device="xpu") if masked else None
    torch.xpu.empty_cache()
    free = 96 * MIB
    total = A770.total_memory
    emulated.devices[0].change(external_memory=total - torch.xpu.memory_reserved() - free)
    with pytest.raises(torch.OutOfMemoryError):
        sdpa(*inputs, attn_mask=mask)
    torch.xpu.empty_cache()
    emulated.reset_counters()
    result = scaled_dot_product_attention(limit_of_the_card)(sdpa)(*inputs, attn_mask=mask)
    assert emulated.devices[0].counters()["ooms"] == 0
    assert torch.isfinite(result).all().item()


def test_the_allocation_limit_of_an_arc_card(emulated_xpu: Make) -> None:
    """4 GiB: the scores are allocated for real, but not computed, to keep the test short."""
    emulated = card(emulated_xpu, max_allocation=4 * GIB)

    def only_scores(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: Any) -> Any:
        shape = (*query.shape[:-1], key.shape[-2])
        torch.empty(shape, dtype=torch.float32, device=query.device)
        return torch.zeros_like(query)

    inputs = [torch.empty(2, 10, 16384, 1, dtype=torch.float16, device="xpu") for _ in range(3)]
    with pytest.raises(torch.OutOfMemoryError):
        only_scores(*inputs)
    emulated.reset_counters()
    torch.xpu.reset_peak_memory_stats()
    bounded_sdpa(only_scores, *inputs, limit=score_limit(4 * GIB, 64 * GIB))
    assert emulated.devices[0].counters()["ooms"] == 0
    assert 4 * GIB <= torch.xpu.max_memory_allocated() < 4 * GIB + 16 * MIB
    torch.xpu.empty_cache()


@pytest.mark.parametrize("attention", ["fused", "math"])
def test_what_fits_is_the_same_call(emulated_xpu: Make, attention: str) -> None:
    emulated = card(emulated_xpu, attention)
    inputs = tensors(2, 4, 64, 8)
    emulated.reset_counters()
    expected = sdpa(*inputs, scale=0.5)
    plain = emulated.devices[0].counters(), emulated.devices[0].op_calls()
    emulated.reset_counters()
    result = scaled_dot_product_attention(never)(sdpa)(*inputs, scale=0.5)
    assert (emulated.devices[0].counters(), emulated.devices[0].op_calls()) == plain
    assert torch.equal(result, expected)


def test_memory_is_asked_for_above_the_floor_only(emulated_xpu: Make) -> None:
    card(emulated_xpu, "fused")
    asked: list[torch.device] = []

    def limit_for(device: torch.device) -> int:
        asked.append(device)
        return 1 << 40

    tokens = 2048
    heads = UNCHECKED_BYTES // (4 * tokens * tokens)
    calls: list[Any] = []

    def original(query: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append((args, kwargs))
        return query

    bounded = scaled_dot_product_attention(limit_for)(original)
    for count in (heads, heads + 1):
        query = torch.empty(1, count, tokens, 8, device="xpu")
        assert bounded(query, query, query) is query
    assert asked == [torch.device("xpu:0")]
    assert len(calls) == 2


def test_a_rank_four_mask_is_squeezed_even_in_small_calls(emulated_xpu: Make) -> None:
    card(emulated_xpu)
    inputs = tensors(2, 4, 24, 8)
    mask = torch.zeros(1, 1, 24, 24, device="xpu")
    seen: list[int] = []

    def original(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append((args[3] if len(args) > 3 else kwargs["attn_mask"]).dim())
        return sdpa(*args, **kwargs)

    bounded = scaled_dot_product_attention(never)(original)
    by_keyword = bounded(*inputs, attn_mask=mask)
    by_position = bounded(*inputs, mask, 0.0)
    assert seen == [2, 2]
    assert torch.equal(by_keyword, sdpa(*inputs, attn_mask=mask))
    assert torch.equal(by_keyword, by_position)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_other_devices_get_the_identical_call(device: str) -> None:
    seen: list[Any] = []

    def original(*args: Any, **kwargs: Any) -> str:
        seen.append((args, kwargs))
        return "result"

    query = torch.empty(1, 64, 4096, 8, device=device)
    mask = torch.empty(1, 1, 4096, 4096, device=device)
    bounded = scaled_dot_product_attention(never)(original)
    assert bounded(query, query, query, mask, 0.0, is_causal=False) == "result"
    assert bounded(query, query, query, attn_mask=mask, surprise=1) == "result"
    (first, options), (second, more) = seen
    assert [id(value) for value in first[:4]] == [id(query)] * 3 + [id(mask)]
    assert first[4:] == (0.0,) and options == {"is_causal": False}
    assert len(second) == 3 and more == {"attn_mask": mask, "surprise": 1}
    assert bounded.__wrapped__ is original


def test_a_second_card_is_judged_by_its_own_memory(emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770), DeviceSpec(A770, max_allocation=64 * MIB)], attention="math")
    asked: list[str] = []

    def limit_for(device: torch.device) -> int:
        asked.append(str(device))
        return 64 * MIB

    inputs = tensors(1, 8, 2048, 8, device="xpu:1")
    assert scaled_dot_product_attention(limit_for)(sdpa)(*inputs).device == torch.device("xpu:1")
    assert asked == ["xpu:1"]


def test_autocast_decides_the_results_dtype(emulated_xpu: Make) -> None:
    card(emulated_xpu)
    inputs = tensors(1, 4, 64, 8)
    with torch.autocast("xpu", torch.bfloat16):
        expected = sdpa(*inputs)
        result = bounded_sdpa(sdpa, *inputs, limit=4 * 64 * 64)
    assert result.dtype == expected.dtype == torch.bfloat16
    assert torch.allclose(result.float(), expected.float(), atol=1e-3, rtol=1e-2)
