"""Which device the launcher starts the server on, and what it says about it."""

from pathlib import Path

import pytest
from comfyui_ipex.launcher.choice import decide
from comfyui_ipex.launcher.cli import build_parser, requested_device
from comfyui_ipex.launcher.environment import TorchProbe
from comfyui_ipex.launcher.errors import SetupError
from comfyui_ipex.launcher.server import ServerCommand
from comfyui_ipex.xpu_runtime.hardware import Hardware

NO_GPU = Hardware(nvidia=False, intel=False)
INTEL = Hardware(nvidia=False, intel=True)
NVIDIA = Hardware(nvidia=True, intel=False)
BOTH = Hardware(nvidia=True, intel=True)


@pytest.mark.parametrize(
    ("request_", "cuda", "xpu", "device", "arguments"),
    [
        ("auto", 0, 0, "cpu", ("--cpu",)),
        ("auto", 1, 0, "cuda:0", ()),
        ("auto", 0, 2, "xpu:0", ()),
        ("cpu", 1, 0, "cpu", ("--cpu",)),
        ("cuda:1", 2, 0, "cuda:1", ("--cuda-device", "1")),
        ("xpu:1", 0, 2, "xpu:1", ()),
    ],
)
def test_the_device_becomes_comfyui_arguments(
    request_: str, cuda: int, xpu: int, device: str, arguments: tuple[str, ...]
) -> None:
    decision = decide(request_, BOTH, TorchProbe("2.14.1", cuda, xpu))
    assert (decision.device, decision.arguments) == (device, arguments)


@pytest.mark.parametrize(
    ("hardware", "torch", "reason"),
    [
        (NO_GPU, "2.14.1+cpu", "no NVIDIA driver and no Intel render node"),
        (INTEL, "2.14.1+cu130", "was not built for XPU"),
        (INTEL, "2.14.1+xpu", "install Intel's compute runtime"),
        (NVIDIA, "2.14.1+cu130", "update the driver"),
    ],
)
def test_running_on_the_cpu_comes_with_the_reason(
    hardware: Hardware, torch: str, reason: str
) -> None:
    assert reason in decide("auto", hardware, TorchProbe(torch, 0, 0)).reason


@pytest.mark.parametrize(
    ("request_", "hardware", "probe", "remedy"),
    [
        ("xpu", INTEL, TorchProbe("2.14.1+xpu", 0, 0), "compute runtime"),
        ("xpu", INTEL, TorchProbe("2.14.1+cu130", 0, 0), "xpu index can be reached"),
        # What is said is about the maker that was asked for.
        ("xpu", BOTH, TorchProbe("2.14.1+cu130", 1, 0), "was not built for XPU"),
        ("cuda", INTEL, TorchProbe("2.14.1+xpu", 0, 1), "no NVIDIA driver"),
        ("xpu:7", INTEL, TorchProbe("2.14.1+xpu", 0, 2), "one of: xpu:0, xpu:1, cpu"),
    ],
)
def test_a_forced_device_that_is_absent_is_an_error_with_a_remedy(
    request_: str, hardware: Hardware, probe: TorchProbe, remedy: str
) -> None:
    with pytest.raises(SetupError, match=f"'{request_}' was asked for") as caught:
        decide(request_, hardware, probe)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("line", "device"),
    [
        ("", "auto"),
        ("--cpu", "cpu"),
        ("--force-intel-xpu", "xpu"),
        ("--device xpu:1 --force-intel-xpu", "xpu:1"),
        ("--device cuda:0", "cuda:0"),
        ("--device cpu --cpu", "cpu"),
    ],
)
def test_arguments_that_ask_for_a_device(line: str, device: str) -> None:
    assert requested_device(build_parser().parse_args(line.split())) == device


@pytest.mark.parametrize(
    "line", ["--cpu --force-intel-xpu", "--device cuda --force-intel-xpu", "--device xpu --cpu"]
)
def test_arguments_that_contradict_each_other_are_an_error(line: str) -> None:
    with pytest.raises(SetupError, match="at once"):
        requested_device(build_parser().parse_args(line.split()))


def test_arguments_that_the_launcher_does_not_know_go_to_comfyui() -> None:
    known, rest = build_parser().parse_known_args(
        ["--lowvram", "--port", "9000", "--listen", "0.0.0.0"]
    )
    assert known.port == 9000
    assert rest == ["--lowvram", "--listen", "0.0.0.0"]


def test_the_server_gets_the_device_by_the_numbers_that_it_will_see(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMFYUI_IPEX_DEVICE", "cuda:1")
    decision = decide("cuda:1", NVIDIA, TorchProbe("2.14.1", 2, 0))
    command = ServerCommand(
        ("python",), tmp_path, tmp_path, 8188, decision.arguments, decision.setting
    )
    assert command.environment()["COMFYUI_IPEX_DEVICE"] == "cuda"
    assert command.argv()[-2:] == ["--cuda-device", "1"]


def test_a_uuid_is_left_to_the_host_which_sees_the_cards() -> None:
    decision = decide("xpu@8680a056-0800", INTEL, TorchProbe("2.14.1+xpu", 0, 1))
    assert decision.setting == "xpu@8680a056-0800"
    assert decision.arguments == ()
