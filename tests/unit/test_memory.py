"""Free memory of an XPU: what is counted, what is not believed, what is not asked again."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime.seams import memory
from comfyui_ipex.xpu_runtime.seams.memory import MemoryReader, Reading, free_memory
from xpu_emulator import DeviceSpec, profile_named

MIB = 1 << 20
GIB = 1 << 30

XPU = torch.device("xpu:0")

Cards = Callable[..., Any]


@pytest.mark.parametrize(
    ("reading", "total", "source"),
    [
        # Nobody else: what the allocator has not reserved, plus what it has cached.
        (Reading(16, 4, 3, 12, None), 13, "allocator"),
        # Other programs hold 8.
        (Reading(16, 4, 3, 4, None), 5, "driver"),
        # The driver cannot tell.
        (Reading(16, 4, 3, None, None), 13, "allocator"),
        # The driver claims everything free although this process holds 4.
        (Reading(16, 4, 3, 16, None), 13, "allocator"),
        # An integrated GPU whose machine has less left than the card claims.
        (Reading(16, 4, 3, None, 2), 3, "system"),
        # More reserved than there is: never negative.
        (Reading(16, 20, 20, None, None), 0, "allocator"),
    ],
)
def test_free_memory_is_the_least_that_all_agree_on(
    reading: Reading, total: int, source: str
) -> None:
    free = free_memory(reading)
    assert (free.total, free.source) == (total, source)
    assert free.cached == max(0, reading.reserved - reading.active)


@pytest.mark.parametrize(
    ("free", "believed"), [(0, False), (-1, False), (1, True), (16, True), (17, False)]
)
def test_what_a_driver_may_say(free: int, believed: bool) -> None:
    assert memory.is_plausible(free, 16) is believed


def test_memory_of_other_programs_is_not_free(emulated_xpu: Cards) -> None:
    emulated_xpu([DeviceSpec(profile_named("a770"), 3 * GIB, external_memory=2 * GIB)])
    free = MemoryReader().free(XPU)
    assert free.total == GIB
    assert free.source == "driver"


def test_the_allocators_cache_is_free(emulated_xpu: Cards) -> None:
    emulated_xpu([DeviceSpec(profile_named("a770"), 3 * GIB)])
    kept = torch.empty(100 * MIB, dtype=torch.uint8, device=XPU)
    dropped = torch.empty(200 * MIB, dtype=torch.uint8, device=XPU)
    del dropped
    free = MemoryReader().free(XPU)
    assert free.cached >= 200 * MIB
    assert abs(free.total - (3 * GIB - kept.nbytes)) <= 2 * MIB


def test_a_driver_that_cannot_tell_is_asked_once(
    emulated_xpu: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulated_xpu([DeviceSpec(profile_named("a770"), 3 * GIB, mem_get_info="raises")])
    asked: list[int] = []
    original = torch.xpu.mem_get_info

    def counting(index: int) -> tuple[int, int]:
        asked.append(index)
        return original(index)

    monkeypatch.setattr(torch.xpu, "mem_get_info", counting)
    reader = MemoryReader()
    assert reader.free(XPU).total == reader.free(XPU).total == 3 * GIB
    assert asked == [0]
    assert reader.silent(0)
    assert reader.silent(1) is None


def test_a_driver_that_claims_everything_free_is_bounded_by_our_own_use(
    emulated_xpu: Cards,
) -> None:
    emulated_xpu([DeviceSpec(profile_named("a770"), 3 * GIB, mem_get_info="all_free")])
    kept = torch.empty(GIB, dtype=torch.uint8, device=XPU)
    assert MemoryReader().free(XPU).total == 3 * GIB - kept.nbytes


def test_an_integrated_gpu_has_no_more_than_the_machine(
    emulated_xpu: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_available", lambda: 5 * GIB)
    emulated_xpu(["lunar_lake"])
    free = MemoryReader().free(XPU)
    assert (free.total, free.source) == (5 * GIB, "system")


class Named:
    """Properties of torch before 2.13, which do not say whether a GPU is integrated."""

    def __init__(self, name: str, total_memory: int = 16 * GIB) -> None:
        self.name = name
        self.total_memory = total_memory


@pytest.mark.parametrize(
    ("name", "integrated"),
    [
        ("Intel(R) Arc(TM) Graphics", True),
        ("Intel(R) Arc(TM) 140V GPU (16GB)", True),
        ("Intel(R) Iris(R) Xe Graphics", True),
        ("Intel(R) UHD Graphics 770", True),
        ("Intel(R) Arc(TM) A770 Graphics", False),
        ("Intel(R) Arc(TM) B580 Graphics", False),
        ("Intel(R) Arc(TM) Pro B50 Graphics", False),
        ("Intel(R) Data Center GPU Max 1100", False),
    ],
)
def test_integrated_gpus_by_name_where_torch_cannot_tell(name: str, integrated: bool) -> None:
    assert memory.is_integrated(Named(name)) is integrated


@pytest.mark.parametrize(
    ("name", "stated", "limit"),
    [
        ("Intel(R) Arc(TM) A770 Graphics", None, 4 * GIB),
        ("Intel(R) Arc(TM) A770 Graphics", 64 * MIB, 64 * MIB),
        ("Intel(R) Data Center GPU Max 1100", None, 16 * GIB),
        ("Intel(R) Data Center GPU Max 1100", 2 * GIB, 2 * GIB),
    ],
)
def test_the_largest_allocation(name: str, stated: int | None, limit: int) -> None:
    assert memory.largest_allocation(Named(name), stated) == limit


def test_the_setting_for_the_largest_allocation_is_in_mib() -> None:
    assert memory.allocation_setting("") is None
    assert memory.allocation_setting("64") == 64 * MIB


@pytest.mark.parametrize("text", ["0", "-1", "4GiB", "1.5"])
def test_a_largest_allocation_that_is_no_number_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="whole number of MiB"):
        memory.allocation_setting(text)
