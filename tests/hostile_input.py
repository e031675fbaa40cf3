"""What nodes make of pictures, widgets and names that nobody should send, on the reference host."""

from collections.abc import Iterator, Sequence

import hosts
import models
import node_files
import probes
from comfyui_ipex import nodes
from comfyui_ipex.launcher.folders import REPOSITORY
from probes import Row

COLUMNS = ("refused", "results", "errors")

MOST_GROWTH = 4 << 30
"""Bytes that hostile input may make a process take for one node, its networks included."""

MANY = 10_000
"""Fuzzed prompts for a node, where time is what ends them."""

CPU = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

HEADING = (
    f"  {'Hostile input':34}{'refused':>10}{'result':>10}{'error':>10}{'unclear':>9}{'MiB':>8}"
)


def names() -> list[str]:
    """Nodes whose pictures do not take minutes on a CPU."""
    return [name for name in nodes.NODE_CLASS_MAPPINGS if name not in node_files.SLOW]


def rows(
    wanted: Sequence[str], seconds: float, jobs: int = 1, examples: int = MANY
) -> Iterator[Row]:
    """What each of `wanted` made of it, when it is done, from `jobs` processes.

    Beside what is always tried, at most `examples` fuzzed prompts, and none after `seconds`.
    """
    node_files.written(wanted)
    # hypothesis is in the reference host's environment only.
    host = hosts.installed(hosts.REFERENCE)
    given = (str(models.written()), str(REPOSITORY), str(examples), str(seconds))

    def share(some: Sequence[str]) -> Iterator[Row]:
        yield from probes.rows(host, "hostile", *given, *some, settings=CPU)

    yield from probes.side_by_side(wanted, jobs, share)


def problems(row: Row) -> list[str]:
    """What is wrong with a row, if anything is."""
    grown = row.get("grew", 0)
    return _said(row) + ([f"it took {grown >> 20} MiB"] if grown > MOST_GROWTH else [])


def _said(row: Row) -> list[str]:
    return [row["failed"]] if "failed" in row else list(row["unclear"])


def line(row: Row) -> str:
    """A row of the table."""
    figures = "".join(f"{row.get(column, 0):>10}" for column in COLUMNS)
    figures += f"{len(problems(row)):>9}{row.get('grew', 0) >> 20:>8}"
    return f"  {row['name']:34}{figures}{row.get('seconds', 0):>8.0f} s"


def total(all_rows: Sequence[Row]) -> Row:
    """The sum of rows."""
    summed = {name: sum(row.get(name, 0) for row in all_rows) for name in (*COLUMNS, "seconds")}
    unclear = [one for row in all_rows for one in _said(row)]
    most = max((row.get("grew", 0) for row in all_rows), default=0)
    return {**summed, "name": "all", "unclear": unclear, "grew": most}
