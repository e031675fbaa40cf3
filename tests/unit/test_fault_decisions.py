"""What follows from a driver's errors: tiles, or words that the host and its users understand."""

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime import host
from comfyui_ipex.xpu_runtime.errors import DeviceLostError
from comfyui_ipex.xpu_runtime.seams import faults
from originals import Original

XPU = torch.device("xpu:0")

LEVEL_ZERO_OOM = RuntimeError(
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
)
LOST = RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")


class Vae:
    """A VAE of the host, as far as the fallback needs it."""

    patcher = object()

    def __init__(self, device: torch.device = XPU) -> None:
        self.device = device

    def decode_tiled(self, samples: Any) -> str:
        return f"tiled {samples}"

    encode_tiled = decode_tiled


VAE_CALLS = [faults.vae_decode, faults.vae_encode]


@pytest.fixture(autouse=True)
def everything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has loaded the VAE."""
    monkeypatch.setattr(host, "empty_caches", lambda: None)
    monkeypatch.setattr(host, "forget_unloaded", lambda: None)
    monkeypatch.setattr(host, "is_loaded", lambda patcher: True)
    monkeypatch.setattr(host, "offload_device", lambda: torch.device("cpu"))


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


ON_TWO_DEVICES = RuntimeError("Expected all tensors to be on the same device")


@pytest.mark.parametrize("factory", VAE_CALLS)
def test_a_vae_that_did_not_get_onto_the_card_is_loaded_again_for_tiles(
    factory: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "is_loaded", lambda patcher: patcher is not Vae.patcher)
    assert factory(Original(ON_TWO_DEVICES))(Vae(), "latent") == "tiled latent"
    with pytest.raises(RuntimeError, match="same device"):
        factory(Original(ON_TWO_DEVICES))(Vae(torch.device("cuda:0")), "latent")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LEVEL_ZERO_OOM, torch.OutOfMemoryError),
        (LOST, DeviceLostError),
        (ON_TWO_DEVICES, RuntimeError),
        (ValueError("a node's own"), ValueError),
    ],
)
def test_a_node_raises_what_the_host_understands(error: Exception, kind: type[Exception]) -> None:
    async def original(*_: Any, **__: Any) -> Any:
        raise error

    with pytest.raises(kind) as caught:
        asyncio.run(faults.get_output_data(original)("prompt", "node", v3_data=None))
    assert caught.value is error or caught.value.__cause__ is error


def test_a_node_gets_its_arguments_and_gives_its_output() -> None:
    async def original(*arguments: Any, **more: Any) -> Any:
        return arguments, more

    output = faults.get_output_data(original)("prompt", "node", v3_data=3)
    assert asyncio.run(output) == (("prompt", "node"), {"v3_data": 3})


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


class UpscaleModel:
    """A spandrel descriptor, as far as the repair of the host's node needs it."""

    def __init__(self, device: str) -> None:
        self.model = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=self.at)]))
        self.at = torch.device(device)

    def to(self, device: str) -> None:
        self.at = torch.device(device)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyboardInterrupt()])
def test_an_upscale_model_leaves_an_intel_card_after_any_end(error: BaseException) -> None:
    def breaks(*_: Any) -> None:
        raise error

    model = UpscaleModel("xpu:0")
    with pytest.raises(type(error)):
        faults.upscale_with_model(breaks)(None, model, "image")
    assert model.at.type == "cpu"


@pytest.mark.parametrize(
    ("device", "error"), [("cuda:0", RuntimeError("shapes differ")), ("xpu:0", LOST)]
)
def test_an_upscale_model_is_left_where_the_repair_is_not_for(device: str, error: Any) -> None:
    model = UpscaleModel(device)
    with pytest.raises(RuntimeError) as raised:
        faults.upscale_with_model(Original(error))(None, model, "image")
    assert raised.value is error
    assert model.at == torch.device(device)


def test_an_upscale_without_an_error_is_the_hosts() -> None:
    original = Original()
    assert faults.upscale_with_model(original)(None, "model", image="image") is original.answer
    assert original.calls == [(None, "model", "image")]
