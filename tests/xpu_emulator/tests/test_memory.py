"""The caching allocator, its statistics, and the ways in which memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770, LUNAR_LAKE

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
Make = Callable[..., EmulatedXpu]


@pytest.fixture(scope="module", autouse=True)
def _older_objects_are_not_collected() -> Iterator[None]:
    # With all that torch and pytest have made, each collection below would take half a second.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    gc.collect()
    yield
    gc.collect()


def _block(size: int, device: str = "xpu") -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, device=device)


def _card(make: Make, total: int = 64 * MIB, **changes: object) -> EmulatedXpu:
    return make([DeviceSpec(A770, total_memory=total, **changes)])


def _stat(name: str) -> int:
    return torch.xpu.memory_stats(0)[name]


def test_sizes_are_rounded_and_segments_shared(emulated_xpu: Make) -> None:
    _card(emulated_xpu)
    small = _block(1)
    assert torch.xpu.memory_allocated() == 512
    assert torch.xpu.memory_reserved() == 2 * MIB
    assert _stat("requested_bytes.all.current") == 1
    medium = _block(3 * MIB)
    assert torch.xpu.memory_reserved() == 22 * MIB
    large = _block(18 * MIB + 1)
    assert torch.xpu.memory_reserved() == 42 * MIB
    assert _stat("segment.small_pool.current") == 1
    assert _stat("segment.large_pool.current") == 2
    del small, medium, large
    assert torch.xpu.memory_allocated() == 0
    assert torch.xpu.memory_reserved() == 42 * MIB
    assert _stat("inactive_split_bytes.all.current") == 0
    torch.xpu.empty_cache()
    assert torch.xpu.memory_reserved() == 0


def test_freed_neighbours_are_joined(emulated_xpu: Make) -> None:
    _card(emulated_xpu)
    blocks = [_block(4 * MIB) for _ in range(5)]  # one segment of 20 MiB
    assert _stat("segment.all.current") == 1
    del blocks[1:4]
    assert _stat("inactive_split.all.current") == 1
    assert _stat("inactive_split_bytes.all.current") == 12 * MIB
    middle = _block(9 * MIB)
    assert _stat("segment.all.current") == 1
    (segment,) = torch._C._xpu_memorySnapshot(None)["segments"]
    assert [block["size"] // MIB for block in segment["blocks"]] == [4, 9, 3, 4]
    assert segment["total_size"] == 20 * MIB and segment["allocated_size"] == 17 * MIB
    del middle


def test_peaks_are_kept_and_reset(emulated_xpu: Make) -> None:
    _card(emulated_xpu)
    first = _block(8 * MIB)
    del first
    assert torch.xpu.max_memory_allocated() == 8 * MIB
    torch.xpu.reset_peak_memory_stats()
    assert torch.xpu.max_memory_allocated() == 0
    assert _stat("allocation.all.allocated") == 1
    torch.xpu.reset_accumulated_memory_stats()
    assert _stat("allocation.all.allocated") == 0


def test_torch_knows_all_the_statistics(emulated_xpu: Make) -> None:
    _card(emulated_xpu)
    names = torch.xpu.memory_stats(0)
    for statistic in ("allocated", "reserved", "active", "requested", "inactive_split"):
        for pool in ("all", "small_pool", "large_pool"):
            for kind in ("current", "peak", "allocated", "freed"):
                assert names[f"{statistic}_bytes.{pool}.{kind}"] == 0
    assert names["num_alloc_retries"] == names["num_ooms"] == 0


def test_a_full_card_raises_torchs_error(emulated_xpu: Make) -> None:
    emulated = _card(emulated_xpu)
    kept = _block(40 * MIB)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        _block(30 * MIB)
    assert str(caught.value) == (
        "XPU out of memory. Tried to allocate 30.00 MiB. GPU 0 has a total capacity of 64.00 MiB "
        "of which 24.00 MiB is free. Of the allocated memory 40.00 MiB is allocated by PyTorch, "
        "and 0 bytes is reserved by PyTorch but unallocated. Please use `empty_cache` to release "
        "all unoccupied cached memory."
    )
    assert _stat("num_ooms") == 1
    assert emulated.devices[0].counters()["ooms"] == 1
    del kept
    assert _block(60 * MIB).numel() == 60 * MIB


def test_the_cache_is_given_up_before_memory_runs_out(emulated_xpu: Make) -> None:
    _card(emulated_xpu)
    del (cached := {"block": _block(40 * MIB)})["block"]
    assert torch.xpu.memory_reserved() == 40 * MIB and not cached
    assert _block(50 * MIB).numel() == 50 * MIB
    assert _stat("num_alloc_retries") == 1


def test_what_a_kernel_returns_is_accounted(emulated_xpu: Make) -> None:
    _card(emulated_xpu)
    image = torch.zeros(1, 4, 512, 512, device="xpu")
    before = torch.xpu.memory_allocated()
    result = torch.conv2d(image, torch.zeros(4, 4, 1, 1, device="xpu"))
    assert torch.xpu.memory_allocated() - before == result.nbytes
    with pytest.raises(torch.OutOfMemoryError):
        torch.conv2d(image, torch.zeros(64, 4, 1, 1, device="xpu"))


def test_other_processes_hold_memory(emulated_xpu: Make) -> None:
    emulated = _card(emulated_xpu, external_memory=40 * MIB)
    assert torch.xpu.mem_get_info() == (24 * MIB, 64 * MIB)
    with pytest.raises(torch.OutOfMemoryError, match=r"of which 24\.00 MiB is free"):
        _block(30 * MIB)
    emulated.devices[0].change(external_memory=0)
    assert _block(30 * MIB).is_xpu


def test_a_single_allocation_is_bounded(emulated_xpu: Make) -> None:
    _card(emulated_xpu, max_allocation=8 * MIB)
    assert len([_block(8 * MIB) for _ in range(3)]) == 3
    with pytest.raises(torch.OutOfMemoryError):
        _block(8 * MIB + 1)


def test_each_card_has_its_own_memory(emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770, total_memory=8 * MIB), A770])
    with pytest.raises(torch.OutOfMemoryError, match="GPU 0"):
        _block(12 * MIB, "xpu:0")
    kept = _block(12 * MIB, "xpu:1")
    assert torch.xpu.memory_allocated(1) == kept.numel()
    assert torch.xpu.memory_allocated(0) == 0


def test_the_fraction_of_a_process(emulated_xpu: Make) -> None:
    if not hasattr(torch.xpu, "set_per_process_memory_fraction"):
        set_fraction = torch._C._xpu_setMemoryFraction
    else:
        set_fraction = torch.xpu.set_per_process_memory_fraction
    _card(emulated_xpu)
    set_fraction(0.5, 0)
    with pytest.raises(torch.OutOfMemoryError, match=r"32\.00 MiB allowed"):
        _block(40 * MIB)
    with pytest.raises(RuntimeError, match="invalid fraction"):
        set_fraction(1.5, 0)


@pytest.mark.parametrize(
    ("oom", "text"),
    [
        ("out_of_device_memory", "error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
        ("out_of_resources", "error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)"),
    ],
)
def test_level_zeros_errors_are_plain(emulated_xpu: Make, oom: str, text: str) -> None:
    _card(emulated_xpu, oom=oom)
    with pytest.raises(RuntimeError) as caught:
        _block(65 * MIB)
    assert type(caught.value) is RuntimeError
    assert str(caught.value) == f"level_zero backend failed with {text}"


def test_the_nth_allocation_fails_once(emulated_xpu: Make) -> None:
    emulated = _card(emulated_xpu)
    emulated.devices[0].fail_allocation(2)
    assert _block(1).is_xpu
    with pytest.raises(torch.OutOfMemoryError):
        _block(1)
    assert _block(1).is_xpu


def test_the_nth_kernel_fails_once(emulated_xpu: Make) -> None:
    emulated = _card(emulated_xpu)
    tensor = torch.ones(2, device="xpu")
    emulated.devices[0].fail_kernel(2, "out_of_resources")
    tensor.add_(1)
    with pytest.raises(RuntimeError, match="UR_RESULT_ERROR_OUT_OF_RESOURCES"):
        tensor.add_(1)
    assert tensor.cpu().tolist() == [2, 2]


def test_the_nth_copy_fails_once(emulated_xpu: Make) -> None:
    emulated = _card(emulated_xpu)
    tensor = torch.ones(2, device="xpu")
    emulated.devices[0].fail_copy(2, "device_lost")
    assert tensor.cpu().tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="UR_RESULT_ERROR_DEVICE_LOST"):
        tensor.cpu()
    assert tensor.clone().cpu().tolist() == [1, 1]


def test_a_lost_card_stays_lost(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a770", "a770"])
    tensor, other = torch.ones(2, device="xpu:0"), torch.ones(2, device="xpu:1")
    doomed = _block(MIB)
    stream, event = torch.xpu.Stream(0), torch.xpu.Event()
    event.record(stream)
    emulated.devices[0].lose()
    for call in (
        lambda: tensor + 1,
        lambda: tensor.cpu(),
        lambda: tensor[0].item(),
        lambda: torch.empty(1, device="xpu:0"),
        lambda: other.to("xpu:0"),
        lambda: tensor.to("xpu:1"),
        lambda: torch.xpu.synchronize(0),
        lambda: torch.xpu.mem_get_info(0),
        lambda: torch.xpu.empty_cache(),
        stream.synchronize,
        event.synchronize,
        event.query,
    ):
        with pytest.raises(RuntimeError, match=r"error: 20 \(UR_RESULT_ERROR_DEVICE_LOST\)"):
            call()
    assert (other + 1).cpu().tolist() == [2, 2]
    del doomed
    assert torch.xpu.memory_allocated(0) == 512


def test_mem_get_info_can_be_refused(emulated_xpu: Make) -> None:
    emulated_xpu([LUNAR_LAKE])
    with pytest.raises(RuntimeError) as caught:
        torch.xpu.mem_get_info()
    assert str(caught.value).startswith(
        "The device (Intel(R) Arc(TM) Graphics) doesn't support querying the available free memory."
    )


@pytest.mark.parametrize(("answer", "free"), [("all_free", 64 * MIB), (5 * MIB, 5 * MIB)])
def test_mem_get_info_can_lie(emulated_xpu: Make, answer: str | int, free: int) -> None:
    _card(emulated_xpu, mem_get_info=answer)
    kept = _block(20 * MIB)
    assert torch.xpu.mem_get_info() == (free, 64 * MIB)
    assert kept.is_xpu


def test_fresh_memory_can_be_poisoned(emulated_xpu: Make) -> None:
    emulated_xpu(["a770"], poison=True)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert torch.empty(8, dtype=dtype, device="xpu").isnan().all()
    assert torch.empty(8, dtype=torch.int64, device="xpu").eq(-1).all()
    assert torch.zeros(8, device="xpu").eq(0).all()


def test_attention_may_keep_its_scores_in_memory(emulated_xpu: Make) -> None:
    query = torch.randn(1, 2, 256, 16)
    scores = 2 * 256 * 256 * 4
    peaks, results = {}, {}
    for attention in ("fused", "math"):
        emulated_xpu(["a770"], attention=attention)
        card = query.to("xpu")
        before = torch.xpu.memory_allocated()
        torch.xpu.reset_peak_memory_stats()
        with torch.no_grad():
            results[attention] = torch.nn.functional.scaled_dot_product_attention(card, card, card)
        peaks[attention] = torch.xpu.max_memory_allocated() - before
        results[attention] = results[attention].cpu()
        del card
    assert peaks["fused"] == query.nbytes
    assert peaks["math"] >= scores
    torch.testing.assert_close(results["fused"], results["math"])


def test_the_accelerator_module_agrees(emulated_xpu: Make) -> None:
    _card(emulated_xpu)
    kept = _block(4 * MIB)
    if hasattr(torch.accelerator, "memory_allocated"):
        assert torch.accelerator.memory_allocated() == kept.numel()
    assert torch.xpu.memory_allocated() == kept.numel()
