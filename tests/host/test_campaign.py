"""A sample of the fault campaign; `./test --campaign` runs the whole. All on emulated cards."""

from collections.abc import Iterator, Sequence
from typing import Any

import campaign
import probes
import pytest

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

SAMPLE = ("IpexUpscaleImage", "IpexTEEDPreprocessor", "IpexSelectDeviceVAE")

SECONDS = 3.0
"""Of faults for each."""


@pytest.fixture(scope="module")
def found(host_version: str) -> list[dict[str, Any]]:
    """The rows of the sample."""
    return list(campaign.rows(host_version, SAMPLE, SECONDS))


def test_nothing_is_lost_when_calls_on_the_card_fail(found: list[dict[str, Any]]) -> None:
    assert [row["name"] for row in found] == list(SAMPLE)
    assert [row["lost"] for row in found] == [[]] * len(SAMPLE)


def test_every_fault_ends_in_a_result_or_a_clear_error(found: list[dict[str, Any]]) -> None:
    assert all(row["injected"] == row["results"] + row["errors"] > 0 for row in found)
    assert sum(row["results"] for row in found) > 0
    assert sum(row["errors"] for row in found) > 0


def test_the_table_has_a_line_for_each_and_a_sum(found: list[dict[str, Any]]) -> None:
    lines = [campaign.line(row) for row in (*found, campaign.total(found))]
    assert [line.split()[0] for line in lines] == [*SAMPLE, "all"]
    assert sum(row["injected"] for row in found) == campaign.total(found)["injected"]


def test_what_a_process_does_not_come_to_is_a_row_with_what_ended_it() -> None:
    def run(names: Sequence[str]) -> Iterator[dict[str, Any]]:
        yield {"name": names[0]}
        raise AssertionError("it ended with -9")

    rows = sorted(probes.side_by_side(("a", "b", "c"), 2, run), key=lambda row: row["name"])
    assert rows == [{"name": "a"}, {"name": "b"}, {"name": "c", "failed": "it ended with -9"}]


def test_the_campaign_covers_every_node() -> None:
    everything = {*campaign.WORKFLOWS, *campaign.nodes.NODE_CLASS_MAPPINGS}
    assert {*campaign.names()} == everything
    versions = ("old", "new")
    assert {*campaign.names_on("new", versions, campaign.names())} == everything
    assert {*campaign.names_on("old", versions, campaign.names())} == everything - campaign.ONCE
