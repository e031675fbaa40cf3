"""Preprocessors under each host's memory management, on an emulated card."""

from typing import Any

import hosts
import probes
import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.host

CARD = ("-m", "xpu_emulator", "--device", "a770", "--")


@pytest.fixture(scope="module")
def seen(host_version: str) -> dict[str, Any]:
    """What the probe saw in a process of the host."""
    host = hosts.installed(host_version)
    return dict(probes.ask(host, "preprocessing", str(REPOSITORY), prefix=CARD))


def test_weights_are_read_once_and_leave_with_all_others(seen: dict[str, Any]) -> None:
    assert seen["weights_are_read_once"] == {
        "loaded": True,
        "read": 1,
        "entries": 1,
        "same": True,
        "read after the file changed": 2,
        "left": 0,
        "after unloading": True,
        "std": True,
    }


def test_networks_beyond_what_is_kept_are_let_go(seen: dict[str, Any]) -> None:
    assert seen["old_networks_are_let_go"] == {"kept": 2, "left": 0, "on the card": True}


def test_after_an_error_or_an_interrupt_nothing_is_on_the_card(seen: dict[str, Any]) -> None:
    found = seen["an_error_or_an_interrupt_leaves_nothing_on_the_card"]
    assert found == {"error": 0, "interrupt": 0, "entries": 0, "works again": True}


def test_pressure_evicts_the_network_and_nothing_is_read_again(seen: dict[str, Any]) -> None:
    assert seen["pressure_evicts_the_network"] == {"left": 0, "same": True, "read": 0}


def test_a_card_with_little_memory_gives_the_same_pictures(seen: dict[str, Any]) -> None:
    found = seen["a_card_with_little_memory_gives_the_same_pictures"]
    assert found["ooms with 2 GiB"] == found["ooms with little"] == 0
    assert max(found["2 GiB"], found["little"], found["ran out"]) <= 1e-6


def test_half_precision_is_checked_once_and_refused_where_it_is_wrong(
    seen: dict[str, Any],
) -> None:
    assert seen["half_precision_is_checked_once"] == {
        "left": 0,
        "dtype": "torch.float16",
        "close": True,
        "differs": True,
        "checks": [1, 2],
        "broken": "torch.float32",
        "bf16": True,
    }


def test_a_flat_hint_is_no_proof_of_half_precision(seen: dict[str, Any]) -> None:
    found = seen["what_finds_nothing_is_compared_by_what_its_network_says"]
    # 1e6 is beyond fp16; bf16 holds it, but is off by more than 2 of 255 of it.
    single = "torch.float32"
    assert found == {"good": "torch.float16", "bad": single, "called otherwise": single}


def test_a_network_that_cannot_run_dry_is_measured_with_its_first_picture(
    seen: dict[str, Any],
) -> None:
    found = seen["a_network_that_cannot_run_dry_is_measured"]
    assert found["chunks"][0] == 1
    assert found["chunks"][1] > 1
    assert found["differs by"] <= 1e-6


def test_sizes_are_as_asked(seen: dict[str, Any]) -> None:
    assert seen["sizes_are_as_asked"] == {
        "own": [2, 50, 70, 3],
        "resolution": [2, 100, 140, 3],
        "matched": [2, 50, 70, 3],
        "gray": [2, 50, 70, 3],
    }
