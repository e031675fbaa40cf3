"""ComfyUI's own attention in slices: the result of one call, and which calls are left alone."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime import host
from comfyui_ipex.xpu_runtime.seams import attention
from comfyui_ipex.xpu_runtime.seams.attention_in_parts import can_be_sliced, sliced_attention
from comfyui_ipex.xpu_runtime.seams.attention_limits import UNCHECKED_BYTES
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

MIB = 1 << 20
Make = Callable[..., EmulatedXpu]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-3}


class Plain:
    """Stands in for the host's `efficient_dot_product_attention`, and remembers every call."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.scores: list[int] = []

    def __call__(
        self,
        query: torch.Tensor,
        key_t: torch.Tensor,
        value: torch.Tensor,
        *args: Any,
        **options: Any,
    ) -> torch.Tensor:
        if args:
            names = ("query_chunk_size", "kv_chunk_size", "kv_chunk_size_min", "use_checkpoint")
            options = dict(zip((*names, "upcast_attention", "mask"), args, strict=True))
        self.calls.append(options)
        kind = torch.float32 if options["upcast_attention"] else query.dtype
        scores = torch.bmm(query.to(kind), key_t.to(kind)) * query.shape[-1] ** -0.5
        self.scores.append(scores.nbytes)
        if options["mask"] is not None:
            scores += options["mask"]
        return torch.bmm(scores.softmax(-1).to(value.dtype), value)


def randoms(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def inputs(*mask: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor | None]:
    """query, key_t, value and a mask: 6 heads, 24 queries, 20 keys."""
    *tensors, masks = randoms((6, 24, 8), (6, 8, 20), (6, 20, 5), mask or (1,), dtype=dtype)
    return [*tensors, masks if mask else None]


def whole(tensors: list[Any], upcast: bool = False) -> torch.Tensor:
    return Plain()(*tensors[:3], upcast_attention=upcast, mask=tensors[3])


def assert_same(result: torch.Tensor, expected: torch.Tensor) -> None:
    assert result.shape == expected.shape and result.dtype == expected.dtype
    difference = (result.double() - expected.double()).norm() / expected.double().norm()
    assert difference <= TOLERANCE[expected.dtype]


# Of 6 x 24 x 20 scores: everything, four heads, one head, seven queries, one query.
SHARES = [6 * 24 * 20, 4 * 24 * 20, 24 * 20, 7 * 20, 20]
MASKS = [(), (24, 20), (1, 20), (6, 24, 20), (1, 24, 20), (6, 1, 20), (1, 1, 20), (6, 24, 1)]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("upcast", [False, True])
def test_slices_are_within_the_limit_and_give_the_result_of_one_call(
    share: int, mask: tuple[int, ...], dtype: torch.dtype, upcast: bool
) -> None:
    tensors = inputs(*mask, dtype=dtype)
    limit = share * (4 if upcast else dtype.itemsize)
    plain = Plain()
    result = sliced_attention(plain, *tensors, upcast, limit=limit)
    assert_same(result, whole(tensors, upcast))
    assert result.is_contiguous()
    assert max(plain.scores) <= limit
    assert sum(plain.scores) == 6 * 24 * 20 * (4 if upcast else dtype.itemsize)
    assert (len(plain.calls) == 1) == (share == SHARES[0])


def test_each_slice_is_told_to_be_one_chunk_with_all_keys() -> None:
    plain = Plain()
    sliced_attention(plain, *inputs(), limit=4 * 7 * 20)
    chunks = {(call["query_chunk_size"], call["kv_chunk_size"]) for call in plain.calls}
    assert chunks == {(6, 20)}  # four of 6 queries, not three of 7 and a rest of 3
    assert not any(call["use_checkpoint"] for call in plain.calls)


def test_a_limit_below_one_query_is_one_query_a_call() -> None:
    plain = Plain()
    assert_same(sliced_attention(plain, *inputs(), limit=0), whole(inputs()))
    assert len(plain.calls) == 6 * 24


@pytest.mark.parametrize(
    "shapes",
    [
        [(6, 24, 8), (6, 8, 20), (6, 21, 8)],
        [(6, 24, 8), (6, 7, 20), (6, 20, 8)],
        [(6, 24, 8), (1, 8, 20), (6, 20, 8)],
        [(1, 6, 24, 8), (1, 6, 8, 20), (1, 6, 20, 8)],
        [(6, 24, 8), (6, 8, 20), (6, 20, 8), (2, 24, 20)],
        [(6, 24, 8), (6, 8, 20), (6, 20, 8), (1, 6, 24, 20)],
    ],
    ids=["keys", "width", "heads", "rank", "heads of the mask", "rank of the mask"],
)
def test_what_is_wrong_is_left_to_the_host(shapes: list[tuple[int, ...]]) -> None:
    query, key_t, value, *mask = randoms(*shapes)
    assert not can_be_sliced(query, key_t, value, mask[0] if mask else None)


def test_what_wants_a_gradient_is_left_to_the_host() -> None:
    query, key_t, value, _ = inputs()
    assert can_be_sliced(query, key_t, value, None)
    value.requires_grad_()
    assert not can_be_sliced(query, key_t, value, None)
    with torch.no_grad():
        assert can_be_sliced(query, key_t, value, None)


def never(device: torch.device) -> int:
    raise AssertionError(f"{device} was asked for its memory")


def test_other_devices_get_the_hosts_own_chunks() -> None:
    query = torch.empty(64, 4096, 8, device="meta")
    seen: list[tuple[Any, ...]] = []
    replacement = attention.efficient_dot_product_attention(never)(lambda *all: seen.append(all))
    replacement(query, query.mT, query, 512, kv_chunk_size_min=3, mask=(mask := query[0]))
    (arguments,) = seen
    assert arguments[0] is arguments[2] is query and arguments[8] is mask
    assert arguments[3:8] == (512, None, 3, True, False)
    vae = attention.slice_attention(never)(lambda *all: all)
    assert vae(query, query.mT, query.mT)[0] is query


def card(make: Make, **changes: Any) -> EmulatedXpu:
    return make([DeviceSpec(A770, **changes)])


def test_on_an_xpu_the_cards_limit_counts_above_the_floor_only(emulated_xpu: Make) -> None:
    emulated = card(emulated_xpu, max_allocation=64 * MIB)
    asked: list[str] = []

    def limit_for(device: torch.device) -> int:
        asked.append(str(device))
        return 64 * MIB

    plain = Plain()
    replacement = attention.efficient_dot_product_attention(limit_for)(plain)
    for tokens, calls in ((2048, 1), (2049, 2)):
        plain.calls.clear()
        query, key_t, value = randoms((4, tokens, 8), (4, 8, tokens), (4, tokens, 8))
        on_card = [tensor.to("xpu") for tensor in (query, key_t, value)]
        emulated.reset_counters()
        result = replacement(*on_card, query_chunk_size=99, use_checkpoint=False)
        assert len(plain.calls) == calls
        assert emulated.devices[0].counters()["ooms"] == 0
        assert_same(result.cpu(), whole([query, key_t, value, None]))
    assert asked == ["xpu:0"]
    assert UNCHECKED_BYTES == 4 * 4 * 2048**2


@pytest.mark.parametrize("tokens", [512, 2049])
def test_the_vaes_attention_is_sliced_on_an_xpu(
    emulated_xpu: Make, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    emulated = card(emulated_xpu, max_allocation=64 * MIB)
    plain = Plain()
    monkeypatch.setattr(host, "efficient_dot_product_attention", lambda: plain)
    q, k, v = randoms((4, tokens, 8), (4, 8, tokens), (4, 8, tokens))
    replacement = attention.slice_attention(lambda _: 64 * MIB)(never)
    emulated.reset_counters()
    result = replacement(q.to("xpu"), k.to("xpu"), v.to("xpu"))
    assert emulated.devices[0].counters()["ooms"] == 0
    assert result.is_contiguous()
    assert_same(result.cpu(), whole([q, k, v.mT, None]).mT)


@pytest.mark.parametrize("contained", [False, True])
def test_split_attention_is_sub_quadratic_on_an_xpu_only(
    emulated_xpu: Make, monkeypatch: pytest.MonkeyPatch, contained: bool
) -> None:
    card(emulated_xpu)
    seen: list[Any] = []
    monkeypatch.setattr(
        host, "sub_quadratic_attention", lambda: lambda *a, **k: seen.append(("ours", a, k))
    )
    replacement = attention.attention_split(lambda *a, **k: seen.append(("host", a, k)))
    for device in ("cpu", "xpu"):
        tensor = torch.empty(1, 4, 8, device=device)
        q = SimpleNamespace(tensor=tensor) if contained else tensor
        replacement(q, 1, 2, 8, skip_reshape=True, scale=0.5)
        kind, arguments, options = seen.pop()
        assert kind == ("ours" if device == "xpu" else "host")
        assert arguments[0] is q
        assert arguments[1:] == (1, 2, 8, None, None, True, False)
        assert options == {"scale": 0.5}


@pytest.mark.parametrize(
    ("primary", "flash"), [("xpu:0", False), ("xpu:1", False), ("cuda:0", True), ("cpu", True)]
)
def test_flash_attention_is_denied_where_the_host_runs_on_an_xpu(
    monkeypatch: pytest.MonkeyPatch, primary: str, flash: bool
) -> None:
    monkeypatch.setattr(host, "primary_device", lambda: torch.device(primary))
    assert attention.pytorch_attention_flash_attention(lambda: True)() is flash
    assert attention.pytorch_attention_flash_attention(lambda: False)() is False
