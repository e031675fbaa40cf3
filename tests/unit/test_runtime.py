"""Which XPU is the host's own, and what the log says about the changes."""

import logging

import pytest
from comfyui_ipex.xpu_runtime import host, runtime
from comfyui_ipex.xpu_runtime.devices import CPU, Device, DeviceAbsentError
from comfyui_ipex.xpu_runtime.report import devices_line
from comfyui_ipex.xpu_runtime.seam import SeamState, SeamStatus

TWO = ["xpu:0", "xpu:1", "cpu"]


@pytest.mark.parametrize(
    ("setting", "argument", "chosen"),
    [
        ("", None, None),
        ("auto", None, None),
        ("", 1, 1),
        ("auto", 1, 1),
        ("xpu:1", None, 1),
        ("xpu:0", 1, 0),
        ("xpu", None, 0),
    ],
)
def test_the_setting_comes_before_the_argument(
    monkeypatch: pytest.MonkeyPatch, setting: str, argument: int | None, chosen: int | None
) -> None:
    monkeypatch.setattr(host, "default_device_argument", lambda: argument)
    assert runtime.chosen_xpu(TWO, {"COMFYUI_IPEX_DEVICE": setting}) == chosen


@pytest.mark.parametrize(("setting", "argument"), [("xpu:2", None), ("", 2)])
def test_a_chosen_card_that_is_absent_is_an_error(
    monkeypatch: pytest.MonkeyPatch, setting: str, argument: int | None
) -> None:
    monkeypatch.setattr(host, "default_device_argument", lambda: argument)
    with pytest.raises(DeviceAbsentError, match="'xpu:2' was asked for"):
        runtime.chosen_xpu(TWO, {"COMFYUI_IPEX_DEVICE": setting})


def test_the_log_is_short_and_warns_of_what_could_not_be_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    states = [SeamState.INSTALLED, SeamState.NOT_NEEDED, SeamState.UNSUPPORTED]
    rows = [SeamStatus(state.name, "module:function", state, "", "it fails") for state in states]
    with caplog.at_level(logging.INFO):
        runtime.log_statuses(rows)
    assert [(r.levelname, r.getMessage().split(":")[1].strip()) for r in caplog.records] == [
        ("INFO", "INSTALLED"),
        ("WARNING", "UNSUPPORTED"),
    ]


def test_without_an_xpu_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.devices, "discover", lambda: (Device(CPU, "CPU"),))
    assert runtime.start({}) is None


def test_the_first_line_names_every_intel_gpu_or_says_that_there_is_none() -> None:
    arc = Device("xpu:0", "Intel Arc A770")
    assert devices_line([arc, Device(CPU, "CPU")]).endswith(": xpu:0 Intel Arc A770")
    assert "nothing is changed" in devices_line([Device("cuda:0", "H100"), Device(CPU, "CPU")])
