"""Requests for devices, without torch."""

from __future__ import annotations

import dataclasses

import pytest
from xpu_emulator import PROFILES, DeviceSpec, device_spec, parse_size, profile_named
from xpu_emulator.devices import visible_devices
from xpu_emulator.profiles import A770, B580, GIB, LUNAR_LAKE, MAX_1100


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("2GiB", 2 * GIB), ("1.5 gib", 3 * GIB // 2), ("512 MiB", 512 << 20)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "2GB", "-1", "GiB", "1e9"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_profiles_are_plausible() -> None:
    for profile in PROFILES.values():
        assert profile.gpu_eu_count == profile.max_compute_units
        assert profile.gpu_eu_count % profile.gpu_subslice_count == 0
        assert profile.total_memory > 5 * GIB
        assert profile.type == "gpu"
        assert len(profile.uuid) == 36
    assert {name for name, profile in PROFILES.items() if not profile.has_fp64} == {"a770", "a380"}
    assert [name for name, profile in PROFILES.items() if profile.is_integrated_gpu] == [
        "lunar_lake"
    ]


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="a770, a380, b580, lunar_lake, max_1100"):
        profile_named("a9000")


def test_a_spec_overrides_its_profile() -> None:
    spec = DeviceSpec(A770, total_memory=GIB, has_fp64=True)
    assert spec.properties() == dataclasses.replace(A770, total_memory=GIB, has_fp64=True)
    assert device_spec("a770").properties() == A770
    assert device_spec(A770) == device_spec("a770")


def test_integrated_gpus_do_not_tell_their_free_memory() -> None:
    assert device_spec("lunar_lake").free_memory_answer() == "raises"
    assert device_spec("a770").free_memory_answer() == "true"
    assert DeviceSpec(LUNAR_LAKE, mem_get_info="all_free").free_memory_answer() == "all_free"


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, [A770, B580, MAX_1100]),
        ({"ZE_AFFINITY_MASK": "1"}, [B580]),
        ({"ZE_AFFINITY_MASK": "2,0"}, [MAX_1100, A770]),
        ({"ZE_AFFINITY_MASK": "7"}, []),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:1"}, [B580]),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:0,2"}, [A770, MAX_1100]),
        ({"ONEAPI_DEVICE_SELECTOR": "opencl:cpu;level_zero:gpu"}, [A770, B580, MAX_1100]),
        ({"ONEAPI_DEVICE_SELECTOR": "opencl:gpu"}, []),
        ({"ZE_AFFINITY_MASK": "1,2", "ONEAPI_DEVICE_SELECTOR": "level_zero:1"}, [MAX_1100]),
    ],
)
def test_the_runtime_variables_choose_cards(environ: dict[str, str], names: list[object]) -> None:
    chosen = visible_devices(["a770", "b580", "max_1100"], environ)
    assert [spec.profile for spec in chosen] == names


def test_a_discrete_card_hides_the_integrated_gpu() -> None:
    assert [spec.profile for spec in visible_devices(["lunar_lake", "a770"], {})] == [A770]
    assert [spec.profile for spec in visible_devices(["lunar_lake"], {})] == [LUNAR_LAKE]


def test_five_cards_are_too_many() -> None:
    with pytest.raises(ValueError, match="At most 4 devices"):
        visible_devices(["a770"] * 5, {})
