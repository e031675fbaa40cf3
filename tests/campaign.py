"""The fault campaign: every node on emulated cards of every host, with a table of what came of it.

    ./test --campaign [--host VERSION] [--only NAME] [--minutes N] [--jobs N] [--seed N] [--faults]

Rows are printed as they are done, so that a run that is stopped still counts. After the faults
come the full forms of the tests that take a sample in `./test`: hostile input, soak, dependencies.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

if __name__ == "__main__":  # as tests/conftest.py does it for pytest
    sys.path.insert(0, str(Path(__file__).parent))
    package = types.ModuleType("comfyui_ipex")
    package.__path__ = [str(REPOSITORY)]
    sys.modules["comfyui_ipex"] = package

import hosts  # noqa: E402
import models  # noqa: E402
import node_files  # noqa: E402
import probes  # noqa: E402
from comfyui_ipex import nodes  # noqa: E402
from comfyui_ipex.launcher.console import say, warn  # noqa: E402
from comfyui_ipex.launcher.folders import child_environment  # noqa: E402

WORKFLOWS = ("txt2img",)

CARD = ("-m", "xpu_emulator", "--device", "a770", "--memory", "3GiB", "--")

SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **probes.NO_REAL_GPU}

ONCE = node_files.SLOW
"""Nodes whose pictures take many seconds on a CPU: only the newest of the hosts runs them."""

SET_UP_SECONDS = 8.0
"""About what a node takes before its first fault."""

COLUMNS = ("calls", "injected", "results", "errors")

FULL_FORMS = (
    "tests/unit/test_hostile_weights.py",
    "tests/unit/test_supply_chain.py",
    "tests/host/test_hostile_input.py",
    "tests/host/test_soak.py",
    "tests/host/test_concurrency.py",
)

Row = dict[str, Any]


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
    found: Queue[Row | None] = Queue()
    shares = [list(wanted[first::jobs]) for first in range(jobs)]
    threads = [
        threading.Thread(target=_share, args=(version, share, (seconds, seed), found))
        for share in shares
    ]
    for thread in threads:
        thread.start()
    running = len(threads)
    while running:
        row = found.get()
        if row is None:
            running -= 1
        else:
            yield row
    for thread in threads:
        thread.join()


def _share(
    version: str,
    wanted: Sequence[str],
    sample: tuple[float, int],
    found: "Queue[Row | None]",
) -> None:
    host = hosts.installed(version)
    probe = str(probes.FOLDER / "campaign.py")
    arguments = [str(models.written()), str(REPOSITORY), *map(str, sample), *wanted]
    tests = str(Path(__file__).parent)
    with subprocess.Popen(
        [str(host.python), *CARD, probe, *arguments],
        cwd=host.tree.path,
        env={**child_environment(), **SETTINGS, "PYTHONPATH": tests},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        missing = list(wanted)
        for line in process.stdout:
            if line.startswith('{"name"'):
                row = json.loads(line)
                missing.remove(row["name"])
                found.put(row)
    for name in missing:
        lost = [f"its process ended with {process.returncode}"]
        found.put({"name": name, **dict.fromkeys(COLUMNS, 0), "lost": lost, "seconds": 0.0})
    found.put(None)


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
        done = []
        for row in rows(version, names_on(version, versions, wanted), seconds, jobs, seed):
            done.append(row)
            say(line(row))
            for lost in row["lost"]:
                warn(f"{row['name']}: {lost}")
        say(line(total(done)))
        everything += done
    say(heading("of every version"))
    say(line(total(everything)))
    return not total(everything)["lost"]


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
    parser.add_argument("--minutes", type=float, default=40.0, help="for the faults (40)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0, help="another one: other calls fail")
    parser.add_argument("--faults", action="store_true", help="nothing after the faults")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    wanted = chosen.only or names()
    good = faults(chosen.host or hosts.VERSIONS, wanted, chosen.minutes, chosen.jobs, chosen.seed)
    if not chosen.faults:
        parts = [full_forms(), dependency_sets(), good]  # each runs, whatever came of another
        good = all(parts)
    say(f"The campaign took {(time.monotonic() - started) / 60:.0f} minutes.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
