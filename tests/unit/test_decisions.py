"""Replacements of the host's functions: right on an XPU, the original's answer elsewhere."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime import host
from comfyui_ipex.xpu_runtime.decisions import dtypes, faults, memory, primary, transfer
from comfyui_ipex.xpu_runtime.errors import DeviceLostError
from comfyui_ipex.xpu_runtime.memory import FreeMemory, MemoryReader

XPU = torch.device("xpu:0")
OTHERS = [torch.device("cpu"), torch.device("cuda:0"), None]

ORIGINAL = object()
"""What the host's own function answers."""


class Original:
    """Stands in for the host's function and keeps its calls."""

    def __init__(self, answer: Any = ORIGINAL) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class FixedReader(MemoryReader):
    """Every XPU has 7 bytes free, 3 of them cached."""

    def free(self, device: torch.device) -> FreeMemory:
        return FreeMemory(7, 3, "driver")


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
        (memory.free_memory(FixedReader()), (True,)),
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
    get_free_memory = memory.free_memory(FixedReader())(original)
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
    ("answer", "device"), [("xpu:0", "xpu:1"), ("cuda:0", "cuda:0"), ("cpu", "cpu")]
)
def test_the_chosen_card_replaces_another_xpu_and_nothing_else(answer: str, device: str) -> None:
    chosen = primary.primary_device(1)(Original(torch.device(answer)))
    assert chosen() == torch.device(device)


def test_unloading_reaches_every_device_that_holds_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[torch.device] = []
    monkeypatch.setattr(host, "loaded_devices", lambda: [torch.device("xpu:1")])
    monkeypatch.setattr(host, "free_everything_on", freed.append)
    original = Original(None)
    memory.unload_all_models(original)()
    assert original.calls == [()]
    assert freed == [torch.device("xpu:1")]


LEVEL_ZERO_OOM = RuntimeError(
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
)
LOST = RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")


class Vae:
    """A VAE of the host, as far as the fallback needs it."""

    def decode_tiled(self, samples: Any) -> str:
        return f"tiled {samples}"

    encode_tiled = decode_tiled


VAE_CALLS = [faults.vae_decode, faults.vae_encode]


@pytest.mark.parametrize("factory", VAE_CALLS)
def test_level_zero_oom_leads_to_tiles_and_a_warning(
    factory: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert factory(Original(LEVEL_ZERO_OOM))(Vae(), "latent") == "tiled latent"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "trying again in tiles" in record.getMessage()


@pytest.mark.parametrize("factory", VAE_CALLS)
@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), torch.OutOfMemoryError("the tiles failed too")]
)
def test_other_errors_are_not_retried(factory: Callable[..., Any], error: RuntimeError) -> None:
    with pytest.raises(RuntimeError) as caught:
        factory(Original(error))(Vae(), "latent")
    assert caught.value is error


@pytest.mark.parametrize("factory", VAE_CALLS)
def test_a_lost_device_is_one_clear_error_and_never_retried(factory: Callable[..., Any]) -> None:
    with pytest.raises(DeviceLostError, match="Restart ComfyUI"):
        factory(Original(LOST))(Vae(), "latent")


@pytest.mark.parametrize(
    ("own", "error", "oom"),
    [
        (True, RuntimeError("anything"), True),
        (False, LEVEL_ZERO_OOM, True),
        (False, LOST, False),
        (False, RuntimeError("shapes differ"), False),
    ],
)
def test_is_oom_also_takes_level_zeros_words(own: bool, error: RuntimeError, oom: bool) -> None:
    assert faults.is_oom(Original(own))(error) is oom
