"""Cards that run out of memory, lie, or disappear: a picture or a clear error, and life goes on.

All on the emulated device of tests/xpu_emulator, never on Intel hardware. Prompts run through the
host's own worker, see probes/worker.py.
"""

import functools
from typing import Any

import hosts
import models
import probes
import pytest
from conftest import REPOSITORY

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

CHECKS = (
    "a_card_that_others_fill",
    "a_small_allocation_limit",
    "a_driver_that_lies_about_free_memory",
    "a_driver_that_stops_telling_free_memory",
    "a_card_lost_at_any_kernel",
    "a_lost_card",  # the last: nothing follows it
)

CARD = ("-m", "xpu_emulator", "--device", "a770", "--memory", "3GiB", "--mem-get-info", "0", "--")

ONE_THREAD = {"OMP_NUM_THREADS": "1"}

FAULTS = ("torch", "out_of_device_memory", "kernel")

# Of about 2000 allocations and 900 kernels of a small text-to-image workflow.
POINTS = 3


@functools.cache
def observed(version: str) -> dict[str, str]:
    """What is wrong, by check."""
    arguments = (str(models.written()), str(REPOSITORY), *CHECKS)
    host = hosts.installed(version)
    return dict(probes.ask(host, "faults", *arguments, prefix=CARD, settings=ONE_THREAD))


@pytest.mark.parametrize("check", CHECKS)
def test_a_prompt_gives_a_picture_or_a_clear_error(host_version: str, check: str) -> None:
    assert observed(host_version)[check] == ""


@functools.cache
def tallies(version: str, points: str) -> dict[str, dict[str, Any]]:
    """What came of prompts in which memory ran out, by the kind of fault."""
    arguments = (str(models.written()), str(REPOSITORY), points, *FAULTS)
    host = hosts.installed(version)
    return dict(probes.ask(host, "allocations", *arguments, prefix=CARD, settings=ONE_THREAD))


@pytest.mark.parametrize("fault", FAULTS)
def test_memory_that_runs_out_anywhere_leaves_a_picture_or_a_clear_error_and_nothing_else(
    host_version: str, pytestconfig: pytest.Config, fault: str
) -> None:
    every = pytestconfig.getoption("--every-allocation")
    tally = tallies(host_version, "all" if every else str(POINTS))[fault]
    assert tally["problems"] == []
    assert tally["errors"] > 0
    assert tally["tried"] == tally["pictures"] + tally["errors"]
    assert tally["tried"] >= (tally["calls"] if every else 2 * POINTS)
    if fault != "kernel":
        assert tally["pictures"] > 0, "no decoding in tiles followed"
