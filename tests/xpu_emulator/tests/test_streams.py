"""Streams, events, pinned memory, and copies that take their time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from xpu_emulator import EmulatedXpu

Make = Callable[..., "EmulatedXpu"]


@pytest.fixture
def slow_copies(emulated_xpu: Make) -> EmulatedXpu:
    return emulated_xpu(["a770", "a770"], async_copies=True)


def test_streams_are_distinct_and_current_per_device(two_cards: EmulatedXpu) -> None:
    default, other = torch.xpu.current_stream(), torch.xpu.Stream()
    assert default != other and default == torch.xpu.current_stream(0)
    with torch.xpu.stream(other):
        assert torch.xpu.current_stream() == other
        assert torch.xpu.current_stream(1) != other
    assert torch.xpu.current_stream() == default
    assert isinstance(other, torch.Stream) and other.query()
    assert torch.xpu.Stream(device=1).device == torch.device("xpu", 1)
    assert torch.accelerator.current_stream().stream_id == default.stream_id


def test_events_measure_time(two_cards: EmulatedXpu) -> None:
    start, end = (torch.xpu.Event(enable_timing=True) for _ in range(2))
    start.record()
    torch.ones(64, 64, device="xpu").mm(torch.ones(64, 64, device="xpu"))
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) > 0
    assert end.query()
    with pytest.raises(ValueError, match="enable_timing=True"):
        torch.xpu.Event().elapsed_time(end)


def test_generic_streams_and_events_work(two_cards: EmulatedXpu) -> None:
    stream, event = torch.Stream(device="xpu"), torch.Event(device="xpu")
    event.record(stream)
    stream.wait_event(event)
    stream.synchronize()
    assert event.query()
    tensor = torch.ones(2, device="xpu")
    tensor.record_stream(stream)


def test_pinned_memory_remembers(two_cards: EmulatedXpu) -> None:
    assert torch.empty(4, pin_memory=True).is_pinned()
    pinned = torch.arange(4.0).pin_memory()
    assert pinned.is_pinned() and pinned[1:].is_pinned()
    assert pinned.tolist() == [0, 1, 2, 3]
    assert not torch.empty(4).is_pinned()
    assert not pinned.clone().is_pinned()
    assert torch.equal(pinned.to("xpu", non_blocking=True).cpu(), pinned)


def test_without_the_option_copies_are_done_at_once(two_cards: EmulatedXpu) -> None:
    card = torch.ones(4, device="xpu")
    assert card.to("cpu", non_blocking=True).tolist() == [1, 1, 1, 1]


def test_a_host_that_does_not_wait_reads_nan(slow_copies: EmulatedXpu) -> None:
    card = torch.ones(4, device="xpu")
    host = card.to("cpu", non_blocking=True)
    assert host.isnan().all()
    torch.xpu.synchronize()
    assert host.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "wait",
    [
        lambda card: torch.xpu.synchronize(),
        lambda card: torch.accelerator.synchronize(),
        lambda card: torch.xpu.current_stream().synchronize(),
        lambda card: card.sum().item(),
        lambda card: card.cpu(),
        lambda card: card.any().tolist(),
    ],
)
def test_these_are_ways_of_waiting(
    slow_copies: EmulatedXpu, wait: Callable[[torch.Tensor], object]
) -> None:
    card = torch.ones(4, device="xpu")
    host = card.to("cpu", non_blocking=True)
    wait(card)
    assert host.tolist() == [1, 1, 1, 1]


def test_an_event_covers_what_came_before_it(slow_copies: EmulatedXpu) -> None:
    card, event = torch.ones(2, device="xpu"), torch.xpu.Event()
    before = card.to("cpu", non_blocking=True)
    event.record()
    after = card.to("cpu", non_blocking=True)
    event.synchronize()
    assert before.tolist() == [1, 1] and after.isnan().all()


def test_waiting_for_another_card_does_not_help(slow_copies: EmulatedXpu) -> None:
    host = torch.ones(2, device="xpu:0").to("cpu", non_blocking=True)
    torch.xpu.synchronize(1)
    assert host.isnan().all()
    torch.xpu.synchronize(0)


def test_a_copy_takes_the_value_of_its_moment(slow_copies: EmulatedXpu) -> None:
    card = torch.ones(2, device="xpu")
    host = card.to("cpu", non_blocking=True)
    card.zero_()
    torch.xpu.synchronize()
    assert host.tolist() == [1, 1]


def test_the_card_sees_its_own_stream_in_order(slow_copies: EmulatedXpu) -> None:
    pinned = torch.arange(3.0).pin_memory()
    card = pinned.to("xpu", non_blocking=True)
    assert (card + 1).cpu().tolist() == [1, 2, 3]


def test_reusing_a_pinned_source_too_early_spoils_the_copy(slow_copies: EmulatedXpu) -> None:
    pinned, pageable = torch.ones(2).pin_memory(), torch.ones(2)
    from_pinned = pinned.to("xpu", non_blocking=True)
    from_pageable = pageable.to("xpu", non_blocking=True)
    pinned.zero_()
    pageable.zero_()
    assert from_pinned.cpu().tolist() == [0, 0]
    assert from_pageable.cpu().tolist() == [1, 1]


def test_another_stream_must_wait(slow_copies: EmulatedXpu) -> None:
    side, pinned = torch.xpu.Stream(), torch.ones(2).pin_memory()
    with torch.xpu.stream(side):
        hasty = pinned.to("xpu", non_blocking=True)
    assert (hasty * 1).isnan().all()
    with torch.xpu.stream(side):
        patient = pinned.to("xpu", non_blocking=True)
    torch.xpu.current_stream().wait_stream(side)
    assert (patient * 1).cpu().tolist() == [1, 1]


def test_polling_ends(slow_copies: EmulatedXpu) -> None:
    event = torch.xpu.Event()
    host = torch.ones(2, device="xpu").to("cpu", non_blocking=True)
    event.record()
    assert not event.query()
    assert event.query() and host.tolist() == [1, 1]


def test_views_of_the_destination_are_copied_too(slow_copies: EmulatedXpu) -> None:
    card, host = torch.arange(6.0, device="xpu").view(2, 3), torch.zeros(4, 3)
    host[1:3].copy_(card, non_blocking=True)
    assert host[1:3].isnan().all() and host[0].eq(0).all()
    torch.xpu.synchronize()
    assert torch.equal(host[1:3], card.cpu())
