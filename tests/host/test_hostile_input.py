"""Pictures, widgets and names that nobody should send: each gives a result or a clear error.

A sample; `./test --campaign` runs the whole.
"""

import hostile_input
import node_files
import pytest
from probes import Row

pytestmark = pytest.mark.host

EXAMPLES = 3
"""Fuzzed prompts for each node."""

SECONDS = 600.0
"""Far more than they take."""


@pytest.fixture(scope="module")
def seen() -> list[Row]:
    """The rows of the nodes without large networks."""
    names = [name for name in node_files.SMALL if name in hostile_input.names()]
    return list(hostile_input.rows(names, SECONDS, examples=EXAMPLES))


def test_hostile_pictures_widgets_and_names_give_results_or_clear_errors(seen: list[Row]) -> None:
    assert [problem for row in seen for problem in hostile_input.problems(row)] == []
    every = hostile_input.total(seen)
    assert min(every[column] for column in hostile_input.COLUMNS) > 30


def test_hostile_input_takes_no_absurd_memory(seen: list[Row]) -> None:
    assert 0 < max(row["grew"] for row in seen) < 2 << 30


def test_the_table_has_a_line_for_each_and_a_sum(seen: list[Row]) -> None:
    lines = [hostile_input.line(row) for row in (*seen, hostile_input.total(seen))]
    assert [line.split()[0] for line in lines] == [*(row["name"] for row in seen), "all"]


def test_a_process_that_ends_early_is_a_problem_of_what_it_did_not_come_to() -> None:
    row = {"name": "IpexCannyPreprocessor", "failed": "it ended with -9"}
    assert hostile_input.problems(row) == ["it ended with -9"]
    assert hostile_input.line(row).split()[:5] == ["IpexCannyPreprocessor", "0", "0", "0", "1"]
