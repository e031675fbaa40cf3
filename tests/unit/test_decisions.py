"""Replacements of the host's functions: right on an XPU, the original's answer elsewhere."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime import host
from comfyui_ipex.xpu_runtime.priority import Primary
from comfyui_ipex.xpu_runtime.seams import devices, dtypes, memory, transfer
from comfyui_ipex.xpu_runtime.seams.memory import FreeMemory, MemoryReader, Reading
from originals import ORIGINAL, Original

XPU = torch.device("xpu:0")
OTHERS = [torch.device("cpu"), torch.device("cuda:0"), None]


class FixedReader(MemoryReader):
    """Every XPU has 7 bytes free, 3 of them cached."""

    def free(self, device: torch.device) -> FreeMemory:
        return FreeMemory(7, 3, "driver")

    def read(self, device: torch.device) -> Reading:
        return Reading(total=11, reserved=4, active=1, driver_free=None, system_available=None)


@pytest.fixture(autouse=True)
def runs_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host itself runs on an NVIDIA card."""
    monkeypatch.setattr(host, "primary_device", lambda: torch.device("cuda:0"))
    monkeypatch.setattr(host, "forces_fp32", lambda: False)
    monkeypatch.setattr(host, "forces_non_blocking", lambda: False)
    monkeypatch.setattr(host, "empty_caches", lambda: None)


@pytest.mark.parametrize("device", OTHERS)
@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        (memory.get_free_memory(FixedReader()), (True,)),
        (memory.get_total_memory(FixedReader()), (True,)),
        (dtypes.should_use_fp16, (5, False, True)),
        (dtypes.supports_fp64, ()),
        (dtypes.should_use_bf16, (5, False, True)),
        (transfer.device_supports_non_blocking, ()),
    ],
)
def test_other_devices_get_the_original_with_the_same_arguments(
    factory: Callable[..., Any], arguments: tuple[Any, ...], device: torch.device | None
) -> None:
    original = Original()
    assert factory(original)(device, *arguments) is ORIGINAL
    assert original.calls == [(device, *arguments)]


def test_free_memory_of_an_xpu() -> None:
    original = Original()
    get_free_memory = memory.get_free_memory(FixedReader())(original)
    assert get_free_memory(XPU) == 7
    assert get_free_memory(XPU, torch_free_too=True) == (7, 3)
    assert original.calls == []


@pytest.mark.parametrize(("fp32", "bf16"), [(False, True), (True, False)])
def test_bf16_on_an_xpu_unless_fp32_is_forced(
    monkeypatch: pytest.MonkeyPatch, fp32: bool, bf16: bool
) -> None:
    monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(host, "forces_fp32", lambda: fp32)
    assert dtypes.should_use_bf16(Original())(XPU) is bf16


@pytest.mark.parametrize("forced", [False, True])
def test_copies_to_an_xpu_block_unless_the_user_forces_others(
    monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    monkeypatch.setattr(host, "forces_non_blocking", lambda: forced)
    assert transfer.device_supports_non_blocking(Original(True))(XPU) is forced


@pytest.mark.parametrize(
    ("kind", "index", "answer", "device"),
    [
        ("xpu", 1, "xpu:0", "xpu:1"),
        ("xpu", None, "xpu:0", "xpu:0"),
        ("cuda", 1, "cuda:0", "cuda:1"),
        # With --cpu the host answers the CPU, whatever card was named.
        ("xpu", 1, "cpu", "cpu"),
    ],
)
def test_the_chosen_card_replaces_another_of_its_kind_and_nothing_else(
    kind: str, index: int | None, answer: str, device: str
) -> None:
    original = Original(torch.device(answer))
    chosen = devices.primary_device(Primary(kind, index, None))(original)
    assert chosen() == torch.device(device)


@pytest.mark.parametrize(
    ("own", "asked", "intel", "nvidia"),
    [
        ("cuda", None, False, True),
        ("cuda", "xpu", True, False),
        ("xpu", None, True, False),
        ("xpu", "cuda", False, True),
        ("xpu", "cpu", False, True),
    ],
)
def test_with_both_makers_the_device_in_question_decides_the_kind(
    own: str, asked: str | None, intel: bool, nvidia: bool
) -> None:
    chosen = Primary(own, None, None)
    with devices.asking_about(asked):
        assert devices.is_intel_xpu(chosen)(Original(True))() is intel
        assert devices.is_nvidia(chosen)(Original(True))() is nvidia
        assert devices.is_intel_xpu(chosen)(Original(False))() is False
        assert devices.is_nvidia(chosen)(Original(False))() is False


def test_a_question_ends_with_its_call_and_stays_in_its_thread() -> None:
    intel = devices.is_intel_xpu(Primary("cuda", None, None))(Original(True))
    with ThreadPoolExecutor(1) as pool, devices.asking_about("xpu"):
        assert intel()
        assert not pool.submit(intel).result()
    assert not intel()


def test_every_card_of_both_makers_is_listed_once() -> None:
    chosen = Primary("cuda", None, None)
    intel = devices.is_intel_xpu(chosen)(Original(True))

    def original(exclude_current: bool = False) -> list[torch.device]:
        return [torch.device("xpu:0")] if intel() else [torch.device("cuda:0")]

    listed = devices.all_devices(original)
    assert listed() == [torch.device("cuda:0"), torch.device("xpu:0")]
    assert listed(exclude_current=True) == [torch.device("xpu:0")]


@pytest.mark.parametrize("own", ["cuda", "xpu", "cpu"])
def test_the_cache_of_every_back_end_in_use_is_given_back(
    monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    emptied = []
    for kind in ("cuda", "xpu"):
        backend = getattr(torch, kind)
        monkeypatch.setattr(backend, "is_initialized", lambda: True)
        monkeypatch.setattr(backend, "empty_cache", lambda kind=kind: emptied.append(kind))
    monkeypatch.setattr(host, "primary_device", lambda: torch.device(own))
    original = Original()
    memory.soft_empty_cache(original)(True)
    assert original.calls == [(True,)]
    assert sorted([*emptied, own]) == sorted({"cuda", "xpu", own})


def test_a_back_end_that_was_never_used_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.xpu, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.xpu, "empty_cache", lambda: pytest.fail("touched"))
    memory.soft_empty_cache(Original())()


def test_a_lost_card_does_not_end_what_empties_its_cache(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.xpu, "is_initialized", lambda: False)
    memory.soft_empty_cache(Original(RuntimeError("error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")))()
    assert "Restart ComfyUI" in caplog.text
    with pytest.raises(RuntimeError, match="another"):
        memory.soft_empty_cache(Original(RuntimeError("another")))()


def test_unloading_reaches_every_device_that_holds_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[torch.device] = []
    monkeypatch.setattr(host, "loaded_devices", lambda: [torch.device("xpu:1")])
    monkeypatch.setattr(host, "free_everything_on", freed.append)
    original = Original(None)
    memory.unload_all_models(original)()
    assert original.calls == [()]
    assert freed == [torch.device("xpu:1")]


def test_unloading_a_lost_card_is_logged_and_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_: Any) -> None:
        raise RuntimeError("error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")

    monkeypatch.setattr(host, "loaded_devices", lambda: [XPU])
    monkeypatch.setattr(host, "free_everything_on", lost)
    monkeypatch.setattr(host, "forget_unloaded", lambda: None)
    memory.unload_all_models(lost)()
    assert "Restart ComfyUI" in caplog.text
    with pytest.raises(RuntimeError, match="another"):
        memory.unload_all_models(Original(RuntimeError("another")))()


@pytest.mark.parametrize(("refusals", "stays"), [(1, False), (2, True)])
def test_a_copy_that_the_driver_refuses_is_tried_again_and_never_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusals: int, stays: bool
) -> None:
    tried: list[bool] = []
    forgotten: list[bool] = []

    def refused() -> None:
        tried.append(True)
        if len(tried) <= refusals:
            raise RuntimeError("error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)")

    monkeypatch.setattr(host, "loaded_devices", lambda: [])
    monkeypatch.setattr(host, "forget_unloaded", lambda: forgotten.append(True))
    memory.unload_all_models(refused)()
    assert len(tried) == 2
    assert len(forgotten) == refusals
    assert ("models stay on the card" in caplog.text) == stays
