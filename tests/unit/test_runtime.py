"""Which XPU is the host's own, and what the log says about the changes."""

import logging
from collections.abc import Callable

import pytest
from comfyui_ipex.xpu_runtime import host, runtime
from comfyui_ipex.xpu_runtime.devices import CPU, Device
from comfyui_ipex.xpu_runtime.host import HostArguments
from comfyui_ipex.xpu_runtime.seam import SeamState, SeamStatus


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


CPU_ONLY = (Device(CPU, "CPU"),)
NVIDIA = (Device("cuda:0", "H100"), Device("cuda:1", "H100"), *CPU_ONLY)
INTEL = (Device("xpu:0", "Arc"), *CPU_ONLY)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this process one that has not begun, with these devices and arguments."""

    def prepare(found: tuple[Device, ...], arguments: HostArguments | None = None) -> None:
        monkeypatch.setattr(runtime, "_current", None)
        monkeypatch.setattr(runtime.devices, "discover", lambda: found)
        monkeypatch.setattr(host, "arguments", lambda: arguments or HostArguments())
        monkeypatch.setattr(host, "runs_on_gpu", lambda: arguments is None)

    return prepare


@pytest.mark.parametrize("found", [CPU_ONLY, NVIDIA])
def test_without_an_xpu_nothing_is_installed(
    machine: Callable[..., None], found: tuple[Device, ...]
) -> None:
    machine(found)
    assert runtime.start({}).installation is None


def test_a_forced_nvidia_card_is_honoured_without_an_xpu(machine: Callable[..., None]) -> None:
    machine(NVIDIA)
    installation = runtime.begin({"COMFYUI_IPEX_DEVICE": "cuda:1"}).installation
    assert installation is not None
    assert [status.seam for status in installation.install()] == ["primary-device"]


@pytest.mark.parametrize(
    ("environ", "arguments", "words"),
    [
        ({"COMFYUI_IPEX_DEVICE": "xpu"}, None, "'xpu' was asked for"),
        ({"COMFYUI_IPEX_DEVICE": "gpu"}, None, "which is no device"),
        ({"COMFYUI_IPEX_DEVICE": "xpu"}, HostArguments(cpu=True), "--cpu ask for different"),
        ({"COMFYUI_IPEX_DEVICE": "cpu"}, None, "came too late"),
        ({"COMFYUI_IPEX_MAX_ALLOCATION": "much"}, None, "whole number"),
    ],
)
def test_a_setting_that_cannot_be_met_ends_the_process_with_a_remedy(
    machine: Callable[..., None],
    environ: dict[str, str],
    arguments: HostArguments | None,
    words: str,
) -> None:
    machine(NVIDIA, arguments)
    with pytest.raises(SystemExit, match=words):
        runtime.or_exit(lambda: runtime.start(environ))


def test_the_device_is_decided_once_a_process(machine: Callable[..., None]) -> None:
    machine(CPU_ONLY)
    begun = runtime.begin({})
    assert runtime.begin({"COMFYUI_IPEX_DEVICE": "xpu"}) is begun
    assert runtime.current() is begun


def test_the_first_line_names_every_intel_gpu_or_says_that_there_is_none() -> None:
    arc = Device("xpu:0", "Intel Arc A770")
    assert runtime.devices_line([arc, Device(CPU, "CPU")]).endswith(": xpu:0 Intel Arc A770")
    assert "nothing is changed" in runtime.devices_line(
        [Device("cuda:0", "H100"), Device(CPU, "CPU")]
    )
