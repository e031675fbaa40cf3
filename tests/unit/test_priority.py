"""The device that the host runs on: forced > CUDA > XPU > CPU."""

import pytest
from comfyui_ipex.xpu_runtime.devices import Device, DeviceAbsentError
from comfyui_ipex.xpu_runtime.host import HostArguments
from comfyui_ipex.xpu_runtime.priority import (
    DeviceConflictError,
    Forced,
    forced,
    primary,
)

CPU = Device("cpu", "CPU")
ARC = [Device("xpu:0", "A770", "aaaa"), Device("xpu:1", "B580", "bbbb")]
NVIDIA = [Device("cuda:0", "H100"), Device("cuda:1", "H100")]
NONE = HostArguments()


@pytest.mark.parametrize(
    ("setting", "arguments", "request_"),
    [
        ("auto", NONE, None),
        ("xpu:1", NONE, "xpu:1"),
        ("auto", HostArguments(cpu=True), "cpu"),
        ("cpu", HostArguments(cpu=True), "cpu"),
        ("auto", HostArguments(force_intel_xpu=True), "xpu"),
        # The more exact of two that agree.
        ("xpu:1", HostArguments(force_intel_xpu=True), "xpu:1"),
        ("xpu@bbbb", HostArguments(force_intel_xpu=True), "xpu@bbbb"),
        ("auto", HostArguments(directml=True), "directml"),
    ],
)
def test_what_is_forced(setting: str, arguments: HostArguments, request_: str | None) -> None:
    demand = forced(setting, arguments)
    assert (demand and demand.request) == request_


@pytest.mark.parametrize(
    ("setting", "arguments"),
    [
        ("xpu", HostArguments(cpu=True)),
        ("xpu:1", HostArguments(directml=True)),
        ("cpu", HostArguments(force_intel_xpu=True)),
        ("cuda", HostArguments(force_intel_xpu=True)),
        ("auto", HostArguments(force_intel_xpu=True, cpu=True)),
    ],
)
def test_two_sources_that_disagree_are_an_error_that_names_both(
    setting: str, arguments: HostArguments
) -> None:
    with pytest.raises(DeviceConflictError, match=r"ask for different devices\. Keep one"):
        forced(setting, arguments)


def test_a_setting_that_is_no_device_is_an_error() -> None:
    with pytest.raises(ValueError, match="Use auto, cpu"):
        forced("gpu", NONE)


@pytest.mark.parametrize(
    ("request_", "default_device", "cards", "kind", "index"),
    [
        (None, None, [*NVIDIA, *ARC], "cuda", None),
        # The host has renumbered NVIDIA's cards by it.
        (None, 1, [*NVIDIA, *ARC], "cuda", None),
        (None, None, ARC, "xpu", None),
        (None, 1, ARC, "xpu", 1),
        (None, None, [], "cpu", None),
        ("xpu", None, [*NVIDIA, *ARC], "xpu", None),
        ("xpu", 1, [*NVIDIA, *ARC], "xpu", 1),
        ("xpu:0", 1, ARC, "xpu", 0),
        ("xpu@bbbb", None, ARC, "xpu", 1),
        ("cuda:1", None, NVIDIA, "cuda", 1),
        ("cuda", None, NVIDIA, "cuda", None),
        ("cpu", None, ARC, "cpu", None),
        ("directml", 1, ARC, "directml", None),
    ],
)
def test_priority(
    request_: str | None, default_device: int | None, cards: list[Device], kind: str, index: int
) -> None:
    demand = None if request_ is None else Forced(request_, "a setting")
    chosen = primary(demand, default_device, [*cards, CPU])
    assert (chosen.kind, chosen.index) == (kind, index)


@pytest.mark.parametrize(
    ("request_", "default_device"), [("xpu:2", None), (None, 2), ("cuda", None), ("xpu@cccc", 0)]
)
def test_a_forced_card_that_is_absent_is_an_error(
    request_: str | None, default_device: int | None
) -> None:
    demand = None if request_ is None else Forced(request_, "a setting")
    with pytest.raises(DeviceAbsentError, match="was asked for"):
        primary(demand, default_device, [*ARC, CPU])
