"""The fault campaign: every node on emulated cards of every host, with a table of what came of it.

    ./test --campaign [--host VERSION] [--only NAME] [--jobs N] [--seed N]
                      [--minutes N] [--hostile N] [--faults]

Rows are printed as they are done, so that a run that is stopped still counts. After the faults
come the full forms of the tests that take a sample in `./test`: hostile input, soak, dependencies.
"""

import argparse
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

if __name__ == "__main__":  # as tests/conftest.py does it for pytest
    sys.path.insert(0, str(Path(__file__).parent))
    package = types.ModuleType("comfyui_ipex")
    package.__path__ = [str(REPOSITORY)]
    sys.modules["comfyui_ipex"] = package

import hostile_input  # noqa: E402
import hosts  # noqa: E402
import models  # noqa: E402
import node_files  # noqa: E402
import probes  # noqa: E402
from comfyui_ipex import nodes  # noqa: E402
from comfyui_ipex.launcher.console import say, warn  # noqa: E402
from probes import Row  # noqa: E402

WORKFLOWS = ("txt2img",)

CARD = ("-m", "xpu_emulator", "--device", "a770", "--memory", "3GiB", "--")

SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

ONCE = node_files.SLOW
"""Nodes whose pictures take many seconds on a CPU: only the newest of the hosts runs them."""

SET_UP_SECONDS = 8.0
"""About what a node takes before its first fault."""

COLUMNS = ("calls", "injected", "results", "errors")

FULL_FORMS = (
    "tests/unit/test_hostile_weights.py",
    "tests/unit/test_supply_chain.py",
    "tests/host/test_architectures.py",
    "tests/host/test_soak.py",
    "tests/host/test_concurrency.py",
)


def names() -> list[str]:
    """Everything that faults are injected into."""
    return [*WORKFLOWS, *nodes.NODE_CLASS_MAPPINGS]


def names_on(version: str, versions: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` that are run on `version`, one of `versions` (the newest is the last)."""
    return [name for name in wanted if version == versions[-1] or name not in ONCE]


def rows(
    version: str, wanted: Sequence[str], seconds: float, jobs: int = 1, seed: int = 0
) -> Iterator[Row]:
    """The rows of `wanted` on a host version, each when it is done, from `jobs` processes.

    What a process did not come to before it ended is a row as well, with what ended it.
    """
    node_files.written(wanted)
    host = hosts.installed(version)
    given = (str(models.written()), str(REPOSITORY), str(seconds), str(seed))

    def share(names: Sequence[str]) -> Iterator[Row]:
        yield from probes.rows(host, "campaign", *given, *names, prefix=CARD, settings=SETTINGS)

    for row in probes.side_by_side(wanted, jobs, share):
        why = row.pop("failed", "")
        missing = {**dict.fromkeys(COLUMNS, 0), "lost": [why], "seconds": 0.0}
        yield {**row, **missing} if why else row


def line(row: Row) -> str:
    """A row of the table."""
    figures = "".join(f"{row[column]:>10}" for column in COLUMNS)
    return f"  {row['name']:34}{figures}{len(row['lost']):>7}{row['seconds']:>8.0f} s"


def heading(version: str) -> str:
    """The table's first line."""
    titles = ("could be", "injected", "result", "error")
    return f"  ComfyUI {version:26}" + "".join(f"{t:>10}" for t in titles) + f"{'lost':>7}"


def total(all_rows: Sequence[Row]) -> Row:
    """The sum of rows."""
    summed: Row = {name: sum(row[name] for row in all_rows) for name in (*COLUMNS, "seconds")}
    return {**summed, "name": "all", "lost": [one for row in all_rows for one in row["lost"]]}


def told(
    found: Iterable[Row], line: Callable[[Row], str], problems: Callable[[Row], list[str]]
) -> list[Row]:
    """Print rows as they come, each with what is wrong with it; all of them."""
    done = []
    for row in found:
        done.append(row)
        say(line(row))
        for problem in problems(row):
            warn(f"{row['name']}: {problem}")
    return done


def faults(
    versions: Sequence[str], wanted: Sequence[str], minutes: float, jobs: int, seed: int
) -> bool:
    """Run the campaign and print its tables; true if nothing was lost."""
    share = minutes * 60 * jobs / (len(versions) * len(wanted))
    seconds = max(1.0, share - SET_UP_SECONDS)
    for name in sorted(ONCE & set(wanted)) if len(versions) > 1 else ():
        say(f"  {name} is slow: on {versions[-1]} alone")
    everything = []
    for version in versions:
        say(heading(version))
        found = rows(version, names_on(version, versions, wanted), seconds, jobs, seed)
        done = told(found, line, lambda row: row["lost"])
        say(line(total(done)))
        everything += done
    say(heading("of every version"))
    say(line(total(everything)))
    return not total(everything)["lost"]


def hostile(wanted: Sequence[str], minutes: float, jobs: int) -> bool:
    """What nodes make of hostile input, with a table; true if all of it is clear."""
    names = [name for name in wanted if name in hostile_input.names()]
    if not names:
        return True
    say(hostile_input.HEADING)
    found = hostile_input.rows(names, minutes * 60 * jobs / len(names), jobs)
    done = told(found, hostile_input.line, hostile_input.problems)
    say(hostile_input.line(hostile_input.total(done)))
    return not any(hostile_input.problems(row) for row in done)


def dependency_sets() -> bool:
    """Try the lowest and the newest dependencies; true if the tests pass on both."""
    command = [sys.executable, str(Path(__file__).with_name("dependencies.py")), "sets"]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0


def full_forms() -> bool:
    """Run the tests that take a sample otherwise; true if they pass."""
    pytest = str(Path(sys.executable).with_name("pytest"))
    command = [pytest, "-q", "--campaign", "-rP", *FULL_FORMS]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0


def main(arguments: Sequence[str]) -> int:
    """Run it all; the exit status."""
    parser = argparse.ArgumentParser(prog="./test --campaign", description=__doc__)
    parser.add_argument("--host", action="append", choices=hosts.VERSIONS, help="only this version")
    parser.add_argument("--only", action="append", choices=names(), help="only this node")
    parser.add_argument("--minutes", type=float, default=25.0, help="for the faults (25)")
    parser.add_argument("--hostile", type=float, default=10.0, help="minutes for fuzzed input (10)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0, help="another one: other calls fail")
    parser.add_argument("--faults", action="store_true", help="nothing after the faults")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    wanted = chosen.only or names()
    good = faults(chosen.host or hosts.VERSIONS, wanted, chosen.minutes, chosen.jobs, chosen.seed)
    if not chosen.faults:
        clear = hostile(wanted, chosen.hostile, chosen.jobs)
        parts = [
            clear,
            full_forms(),
            dependency_sets(),
            good,
        ]  # each runs, whatever came of another
        good = all(parts)
    say(f"The campaign took {(time.monotonic() - started) / 60:.0f} minutes.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
