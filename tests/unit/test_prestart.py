"""What is settled before the host imports torch, and who runs on the CPU."""

import builtins
import logging
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from comfyui_ipex.xpu_runtime import host, import_hook, ipex, prestart, runtime, torch_build
from comfyui_ipex.xpu_runtime.devices import CPU, Device, DeviceAbsentError
from comfyui_ipex.xpu_runtime.hardware import Hardware
from comfyui_ipex.xpu_runtime.host import HostArguments
from comfyui_ipex.xpu_runtime.priority import Forced

CPU_ONLY = (Device(CPU, "CPU"),)
NVIDIA = (Device("cuda:0", "H100"), *CPU_ONLY)
INTEL = (Device("xpu:0", "Arc"), *CPU_ONLY)


def backend(available: bool) -> SimpleNamespace:
    """A back end of torch that has a device or none."""
    return SimpleNamespace(is_available=lambda: available)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Makes a host and a torch with these devices; the list holds what was done to the host."""

    def prepare(
        found: tuple[Device, ...] = CPU_ONLY,
        arguments: HostArguments | None = None,
        torch: str = "2.14.1+xpu",
        mps: bool = False,
        plugins: tuple[str, ...] = (),
    ) -> list[str]:
        done: list[str] = []
        kinds = {device.kind for device in found}
        fake = SimpleNamespace(
            __version__=torch,
            cuda=backend("cuda" in kinds),
            xpu=backend("xpu" in kinds),
            backends=SimpleNamespace(mps=backend(mps)),
        )
        monkeypatch.setitem(sys.modules, "torch", fake)
        monkeypatch.setattr(prestart.devices, "discover", lambda: found)
        monkeypatch.setattr(prestart, "detect", lambda: Hardware(nvidia=False, intel=True))
        monkeypatch.setattr(prestart, "is_installed", lambda name: name in plugins)
        monkeypatch.setattr(host, "imports_ipex", lambda: True)
        monkeypatch.setattr(host, "arguments", lambda: arguments or HostArguments())
        monkeypatch.setattr(host, "run_on_cpu", lambda: done.append("cpu"))
        monkeypatch.setattr(host, "switch_off_ipex_optimize", lambda: done.append("no optimize"))
        monkeypatch.setattr(torch_build, "installed_version", lambda: torch)
        monkeypatch.setattr(ipex, "block_mismatched", lambda version: done.append(version))
        monkeypatch.setattr(runtime, "begin", lambda environ: done.append("begin"))
        return done

    return prepare


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is to be called around the import of the model management, once it is prepared."""
    calls: list[Any] = []
    monkeypatch.setattr(import_hook, "around_import", lambda *given: calls.extend(given))
    return calls


@pytest.mark.parametrize("found", [CPU_ONLY, NVIDIA, INTEL])
def test_a_forced_cpu_becomes_the_hosts_own_argument(
    machine: Callable[..., list[str]], hooked: list[Any], found: tuple[Device, ...]
) -> None:
    done = machine(found)
    prestart.prepare({"COMFYUI_IPEX_DEVICE": "cpu"})
    assert done == ["cpu", "2.14.1+xpu", "no optimize"]
    name, before, after = hooked
    assert name == "comfy.model_management"
    before()
    after()
    assert done == ["cpu", "2.14.1+xpu", "no optimize", "begin"]


@pytest.mark.parametrize(
    ("setting", "arguments", "words"),
    [
        ("xpu", HostArguments(cpu=True), "COMFYUI_IPEX_DEVICE=xpu and --cpu ask for different"),
        ("cpu", HostArguments(directml=True), "--directml ask for different"),
        ("gpu", None, "which is no device"),
    ],
)
def test_settings_that_contradict_end_the_process_before_torch(
    machine: Callable[..., list[str]],
    hooked: list[Any],
    setting: str,
    arguments: HostArguments | None,
    words: str,
) -> None:
    done = machine(INTEL, arguments)
    with pytest.raises(SystemExit, match=words):
        prestart.prepare({"COMFYUI_IPEX_DEVICE": setting})
    assert done == hooked == []


def test_without_a_gpu_the_host_runs_on_the_cpu_and_one_line_says_why(
    machine: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    done = machine(torch="2.14.1+cu130")
    with caplog.at_level(logging.INFO):
        prestart.ensure_a_device(None, {})
    assert done == ["cpu"]
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "runs on the CPU" in record.getMessage()
    assert "torch 2.14.1+cu130 was not built for XPU" in record.getMessage()


@pytest.mark.parametrize(
    "given",
    [
        {"found": NVIDIA},
        {"found": INTEL},
        {"mps": True},
        {"plugins": ("torch_npu",)},
        {"plugins": ("torch_mlu",)},
        # With it torch before 2.4 learns of XPUs, when the host imports it.
        {"plugins": (ipex.PACKAGE,)},
    ],
)
def test_a_device_that_the_host_finds_is_left_to_it(
    machine: Callable[..., list[str]], given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    done = machine(**given)
    with caplog.at_level(logging.INFO):
        prestart.ensure_a_device(None, {})
    assert done == []
    assert caplog.records == []


def test_an_old_torch_without_xpu_is_asked_for_the_rest(
    machine: Callable[..., list[str]],
) -> None:
    machine(NVIDIA)
    del sys.modules["torch"].xpu  # type: ignore[attr-defined]
    assert prestart.offers_a_gpu(sys.modules["torch"])


@pytest.mark.parametrize("request_", [CPU, "directml"])
def test_who_asked_for_no_gpu_is_not_asked_about_one(
    machine: Callable[..., list[str]], request_: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = machine()
    prestart.ensure_a_device(Forced(request_, "an argument"), {})
    assert done == []
    assert caplog.records == []


def test_a_forced_gpu_that_is_absent_never_becomes_the_cpu(
    machine: Callable[..., list[str]], hooked: list[Any]
) -> None:
    done = machine(torch="2.14.1+cu130")
    prestart.prepare({"COMFYUI_IPEX_DEVICE": "xpu"})
    with pytest.raises(SystemExit, match=r"'xpu' was asked for.*Why: .*not built for XPU"):
        hooked[1]()
    assert "cpu" not in done


def test_a_number_beyond_the_cards_is_told_what_there_is(
    machine: Callable[..., list[str]],
) -> None:
    machine(INTEL)
    with pytest.raises(DeviceAbsentError, match=r"devices: xpu:0, cpu") as caught:
        prestart.ensure_a_device(Forced("xpu:1", "COMFYUI_IPEX_DEVICE=xpu:1"), {})
    assert "Why" not in str(caught.value)


@pytest.mark.parametrize("error", [ImportError("no torch"), OSError("libcublas.so.13")])
def test_a_torch_that_cannot_be_imported_is_the_hosts_to_report(
    machine: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    done = machine()
    real = builtins.__import__

    def fails(name: str, *rest: Any, **named: Any) -> Any:
        if name == "torch":
            raise error
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", fails)
    prestart.ensure_a_device(None, {})
    assert done == []


def test_ipex_counts_only_where_the_host_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "imports_ipex", lambda: False)
    assert ipex.PACKAGE not in prestart.host_plugins()


def test_torchs_version_is_read_without_importing_it() -> None:
    # In a process of its own: in this one torch may have been given an emulated XPU.
    told = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert torch_build.installed_version() == told.stdout.strip()
