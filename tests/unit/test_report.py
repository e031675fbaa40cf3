"""The report: what it says of each machine, what it leaves out, and that it never fails."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime import host, report, report_devices
from comfyui_ipex.xpu_runtime.devices import CPU, Device, discover
from comfyui_ipex.xpu_runtime.host import HostArguments
from comfyui_ipex.xpu_runtime.priority import Forced, Primary
from comfyui_ipex.xpu_runtime.readable import Unreadable
from comfyui_ipex.xpu_runtime.report import collect, without_paths
from comfyui_ipex.xpu_runtime.runtime import Runtime
from comfyui_ipex.xpu_runtime.seam import Installation
from comfyui_ipex.xpu_runtime.seams.memory import MemoryReader
from toy_hosts import seam, toy_host
from xpu_emulator import DeviceSpec, profile_named

GIB = 1 << 30
MIB = 1 << 20

Cards = Callable[..., Any]

CPU_ONLY = (Device(CPU, "CPU"),)
NVIDIA = (Device("cuda:0", "H100", "GPU-5ca1ab1e"), *CPU_ONLY)


def refuse(*_: Any) -> Any:
    """A part of the host that is gone."""
    raise AttributeError("module has no attribute 'gone'\nsecond line")


@pytest.fixture(autouse=True)
def a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that runs on the CPU, keeps one model on xpu:0, and was given some arguments."""
    model = host.LoadedModel("BaseModel", "xpu:0", 1 * GIB, 2 * GIB)
    answers = {
        "version": "0.3.47",
        "arguments": HostArguments(),
        "primary_device": torch.device(CPU),
        "computes_in_16_bits": (True, False),
        "stores_fp8": True,
        "loaded_models": [model],
        "changed_arguments": {"force_fp32": True, "base_directory": "/home/ann/ComfyUI"},
    }
    for name, answer in answers.items():
        monkeypatch.setattr(host, name, lambda *_, answer=answer: answer)


def on(found: tuple[Device, ...], primary: Primary | None = None) -> Runtime:
    """A process with these devices, in which nothing is changed."""
    return Runtime(found, primary or Primary(CPU, None, None), MemoryReader(), None)


def text_of(found: tuple[Device, ...], **environ: str) -> str:
    """The report's text."""
    return report.as_text(collect(on(found), environ))


def test_without_a_gpu_it_says_that_nothing_is_changed() -> None:
    text = text_of(CPU_ONLY)
    assert report.NOTHING_CHANGED in text
    assert "ComfyUI         0.3.47" in text
    assert "cpu, by the priority CUDA > XPU > CPU" in text
    assert "arguments       force_fp32=True\n" in text
    assert "source: system" in text


def test_without_a_host_every_part_of_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("version", "arguments", "primary_device", "computes_in_16_bits", "stores_fp8")
    for name in (*names, "loaded_models", "changed_arguments"):
        monkeypatch.setattr(host, name, refuse)
    found = collect(on(CPU_ONLY), {})
    why = Unreadable("AttributeError: module has no attribute 'gone'")
    assert found.software.comfyui == found.arguments == found.loaded == why
    assert found.primary.answered == found.devices[0].capabilities == why
    text = report.as_text(found)
    assert text.count(f"cannot be read ({why.why})") == 5
    assert "second line" not in text


def test_a_card_that_cannot_be_asked_says_why() -> None:
    """Here torch has no NVIDIA card, as after its driver was lost."""
    card = collect(on(NVIDIA), {}).devices[0]
    assert (card.name, card.stable_name, card.label) == ("cuda:0", "cuda@GPU-5ca1ab1e", "H100")
    assert isinstance(card.memory, Unreadable)
    assert isinstance(card.capabilities, Unreadable)


class Nvidia:
    """torch.cuda of a machine with one card of 80 GiB, which this process uses or not."""

    def __init__(self, reserved: int) -> None:
        self.reserved = reserved
        self.asked = 0

    def get_device_properties(self, _: Any) -> Any:
        return SimpleNamespace(total_memory=80 * GIB, multi_processor_count=132, is_integrated=0)

    def is_initialized(self) -> bool:
        return True

    def memory_stats(self, _: Any) -> dict[str, int]:
        return {"reserved_bytes.all.current": self.reserved, "active_bytes.all.current": 0}

    def mem_get_info(self, _: Any) -> tuple[int, int]:
        self.asked += 1
        return 70 * GIB, 80 * GIB


@pytest.mark.parametrize("reserved", [0, 4 * GIB])
def test_an_nvidia_card_is_asked_for_free_memory_only_when_it_is_used(
    monkeypatch: pytest.MonkeyPatch, reserved: int
) -> None:
    nvidia = Nvidia(reserved)
    monkeypatch.setattr(torch, "cuda", nvidia)
    found = collect(on(NVIDIA), {})
    card = found.devices[0]
    assert nvidia.asked == (1 if reserved else 0)
    assert isinstance(card.memory, report_devices.Memory)
    assert card.memory.reading.driver_free == (70 * GIB if reserved else None)
    assert card.memory.allocation is None
    text = report.as_text(found)
    assert ("asking would take memory of it" in text) == (not reserved)
    assert "132 SMs" in text
    assert report.NOTHING_CHANGED in text


def test_an_intel_card_is_described_as_its_driver_does(emulated_xpu: Cards) -> None:
    emulated_xpu([DeviceSpec(profile_named("a770"), 3 * GIB, external_memory=2 * GIB)])
    found = collect(on(discover()), {})
    card = found.devices[0]
    assert card.stable_name.startswith("xpu@8680a056")
    assert card.driver.startswith("1.6.33578+51, Intel(R) oneAPI")
    assert card.capabilities == report_devices.Capabilities(
        fp16=True,
        bf16=False,
        fp64=False,
        fp8_storage=True,
        integrated=False,
        units="512 EUs",
        driver_bf16=True,
    )
    text = report.as_text(found)
    assert "3.00 GiB, of which 1.00 GiB are free (source: driver, 0.00 GiB of it cached)" in text
    assert "1.00 GiB free" in text
    assert "3.00 GiB (all of its memory, assumed)" in text
    assert "xpu:0  BaseModel (1.00 GiB of 2.00 GiB)" in text


def test_reading_a_card_that_was_never_used_leaves_it_unused(emulated_xpu: Cards) -> None:
    xpu = emulated_xpu(["a770", "a770"])
    collect(on(discover()), {})
    assert [sum(device.op_calls().values()) for device in xpu.devices] == [0, 0]
    assert [torch.xpu.memory_reserved(index) for index in (0, 1)] == [0, 0]


def test_a_driver_that_cannot_tell_free_memory_is_quoted(emulated_xpu: Cards) -> None:
    emulated_xpu([DeviceSpec(profile_named("lunar_lake"), mem_get_info="raises")])
    text = text_of(discover())
    assert "driver says     nothing (" in text
    assert "free memory" in text
    assert "machine         " in text
    assert "integrated yes" in text


@pytest.mark.parametrize(
    ("total", "stated", "source"),
    [
        (16 * GIB, None, "what Level Zero grants by default, assumed"),
        (3 * GIB, None, "all of its memory, assumed"),
        (16 * GIB, 64 * MIB, "COMFYUI_IPEX_MAX_ALLOCATION"),
    ],
)
def test_the_largest_tensor_says_where_its_figure_comes_from(
    total: int, stated: int | None, source: str
) -> None:
    properties = SimpleNamespace(name="Intel(R) Arc(TM) A770 Graphics", total_memory=total)
    assert report_devices.allocation_of(properties, stated).source == source


@pytest.mark.parametrize(
    ("primary", "arguments", "reason"),
    [
        (Primary("xpu", None, None), HostArguments(), "by the priority CUDA > XPU > CPU"),
        (
            Primary("xpu", 1, None),
            HostArguments(default_device=1),
            "by the priority CUDA > XPU > CPU, --default-device 1",
        ),
        (
            Primary("xpu", 1, Forced("xpu:1", "COMFYUI_IPEX_DEVICE=xpu:1")),
            HostArguments(),
            "forced by COMFYUI_IPEX_DEVICE=xpu:1",
        ),
    ],
)
def test_the_primary_device_says_why(
    primary: Primary, arguments: HostArguments, reason: str
) -> None:
    assert report_devices.because(primary, arguments) == reason


def test_a_host_that_answers_another_device_is_quoted() -> None:
    forced = Primary("xpu", 1, Forced("xpu:1", "COMFYUI_IPEX_DEVICE=xpu:1"))
    text = report.as_text(collect(on(CPU_ONLY, forced), {}))
    assert "forced by COMFYUI_IPEX_DEVICE=xpu:1; ComfyUI's own answer: cpu" in text


def test_every_seam_has_a_row_with_its_state_now() -> None:
    with toy_host() as toy:
        installation = Installation([seam(), seam("no-such", "toy_host.memory:nothing")])
        installation.install()
        toy.free_memory = lambda dev=None, torch_free_too=False: 0
        running = dataclasses.replace(on(CPU_ONLY), installation=installation)
        text = report.as_text(collect(running, {}))
    assert "free-memory  overwritten (by " in text
    assert "no-such      unsupported host (" in text
    assert "Without it: models do not fit" in text
    assert report.NOTHING_CHANGED not in text


def test_json_holds_the_same_facts() -> None:
    with toy_host():
        installation = Installation([seam()])
        installation.install()
        running = dataclasses.replace(on(CPU_ONLY), installation=installation)
        found = json.loads(report.as_json(collect(running, {"ZE_AFFINITY_MASK": "0"})))
    assert found["seams"][0]["state"] == "installed"
    assert found["environment"] == {"ZE_AFFINITY_MASK": "0"}
    assert found["software"]["comfyui"] == "0.3.47"
    assert found["devices"][0]["memory"]["reading"]["total"] > 0


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("by /home/ann.b/ComfyUI/custom_nodes/other", "by custom_nodes/other"),
        ("by /home/ann_x_b/ComfyUI/custom_nodes/other", "by custom_nodes/other"),
        (
            "by /mnt/Ann's disk/custom_nodes/a; b by /mnt/x/custom_nodes/c",
            "by custom_nodes/a; b by custom_nodes/c",
        ),
        ("No such file: '/mnt/Anns disk/x/y.bin'", "No such file: '.../y.bin'"),
        ("cannot open /home/ann.b/models/x.bin", "cannot open ~/models/x.bin"),
        ("cannot open /data/ann/models/x.bin", "cannot open .../x.bin"),
        ("see https://example.org/a/b/c", "see https://example.org/a/b/c"),
        ("fp16/bf16, 1.6.33578+51 over Level-Zero", "fp16/bf16, 1.6.33578+51 over Level-Zero"),
    ],
)
def test_texts_are_published_without_the_way_to_a_file(
    monkeypatch: pytest.MonkeyPatch, text: str, published: str
) -> None:
    monkeypatch.setattr(report.Path, "home", lambda: Path("/home/ann.b"))
    assert without_paths(text) == published
