"""What upscaling keeps between runs, and what inpainting does where memory is short."""

from typing import Any

import hosts
import models
import probes
import pytest
from conftest import REPOSITORY

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

CARD = ("-m", "xpu_emulator", "--device", "a770", "--")

SHAPE = [1, 192, 192, 3]


@pytest.fixture(scope="module")
def seen(host_version: str) -> dict[str, Any]:
    """What the probe saw in a process of the host."""
    host = hosts.installed(host_version)
    arguments = (str(REPOSITORY), str(models.written()))
    return dict(probes.ask(host, "upscaling_memory", *arguments, prefix=CARD))


def test_runs_leave_no_tensor_behind(seen: dict[str, Any]) -> None:
    """Counted on every device, and in the card's bytes."""
    found = seen["five_runs_keep_nothing"]
    assert len(set(found["storages"])) == 1, found
    assert len(set(found["bytes"])) == 1, found
    assert found["bytes"][0] > 0


def test_another_file_of_the_same_name_is_another_model(seen: dict[str, Any]) -> None:
    assert seen["another_file_of_the_same_name_is_another_model"] == [True] * 4


def test_inpainting_evicts_what_is_in_its_way_and_not_itself(seen: dict[str, Any]) -> None:
    found = seen["inpainting_plans_its_memory"]
    assert found["alone"] == SHAPE
    # The smaller and the larger than itself: the host would unload the smallest first.
    assert found["beside a model of 100 MiB"] == [SHAPE, "cpu"]
    assert found["beside a model of 300 MiB"] == [SHAPE, "cpu"]


def test_where_inpainting_does_not_fit_both_figures_are_named_and_the_card_is_left(
    seen: dict[str, Any],
) -> None:
    said, left = seen["inpainting_plans_its_memory"]["beside a program"]
    assert "A picture of 192x192 takes 24 MiB" in said
    assert "22 MiB are free" in said
    assert left == 0


@pytest.mark.parametrize("error", ["torch", "out_of_device_memory"])
def test_inpainting_goes_on_after_memory_ran_out_once(seen: dict[str, Any], error: str) -> None:
    assert seen["inpainting_plans_its_memory"][error] == SHAPE
