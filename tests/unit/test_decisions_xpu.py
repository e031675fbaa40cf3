"""Replacements that need cards: each card's own streams, fp64 and caches, on emulated XPUs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime import host
from comfyui_ipex.xpu_runtime.seams import dtypes, transfer

SECOND = torch.device("xpu:1")


@pytest.fixture
def cards(emulated_xpu: Callable[..., Any]) -> Any:
    """A card without fp64 and one with it; the first is the current one."""
    return emulated_xpu(["a770", "b580"])


def test_the_stream_that_waits_is_the_second_cards_own(cards: Any) -> None:
    """The host asks for the current stream without saying of which card."""
    waited = []

    def host_sync(device: torch.device, stream: Any) -> None:
        waited.append(torch.xpu.current_stream().device)

    def host_current(device: torch.device) -> Any:
        return torch.xpu.current_stream()

    host_sync(SECOND, None)
    transfer.sync_stream(host_sync)(SECOND, None)
    transfer.sync_stream(host_sync)(torch.device("cpu"), None)
    assert waited == [torch.device("xpu:0"), SECOND, torch.device("xpu:0")]
    assert transfer.stream_of_its_card(host_current)(SECOND).device == SECOND
    assert torch.xpu.current_device() == 0


def host_rope(pos: torch.Tensor, dim: int, theta: int) -> torch.Tensor:
    """Needs fp64 on the tensor's own device, as the host's does where it makes no detour."""
    frequencies = theta ** -torch.linspace(0, 1, dim, dtype=torch.float64, device=pos.device)
    return (pos.unsqueeze(-1) * frequencies).to(torch.float32)


@pytest.mark.parametrize(("name", "detour"), [("xpu:0", True), ("xpu:1", False), ("cpu", False)])
def test_rope_leaves_a_card_only_if_it_has_no_fp64(cards: Any, name: str, detour: bool) -> None:
    pos = torch.arange(8, dtype=torch.float32)
    expected = host_rope(pos, 4, 100)
    placed = pos.to(name)
    cards.reset_counters()
    result = dtypes.rope(host_rope)(placed, 4, 100)
    copies = [card.counters()["d2h"]["count"] for card in cards.devices]
    assert copies == [int(detour), 0]
    assert result.device == placed.device
    assert torch.equal(result.cpu(), expected)


def test_fp64_is_answered_by_the_card_and_not_by_the_maker(
    cards: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "primary_device", lambda: SECOND)
    supports = dtypes.supports_fp64(lambda device=None: False)
    assert [supports(torch.device(name)) for name in ("xpu:0", "xpu:1")] == [False, True]
    assert supports() is True
    assert supports(torch.device("cpu")) is False


def test_fp16_of_the_hosts_own_card_is_asked_of_the_chosen_card(
    cards: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch takes a device that is left out for the current card, which need not be the one."""
    monkeypatch.setattr(host, "primary_device", lambda: SECOND)
    asked = []

    def host_fp16(device: Any, *_: Any) -> bool:
        asked.append(device)
        return True

    assert dtypes.should_use_fp16(host_fp16)()
    assert asked == [SECOND]
