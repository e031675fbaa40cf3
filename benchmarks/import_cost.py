#!/usr/bin/env python3
"""What this extension costs a host at start, in seconds and megabytes of resident memory.

usage: .venv/bin/python benchmarks/import_cost.py [REPEATS] [VERSION ...]

Each repeat is a fresh process that runs prestartup_script.py, imports the host, then loads the
extension as the host does; only the first and the last are counted, and not what the hook does
inside the host's import. The budget is 0.05 s for prestart, 0.1 s and 10 MB for all.
"""

import statistics
import sys
import types
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(REPOSITORY / "tests"))
package = types.ModuleType("comfyui_ipex")
package.__path__ = [str(REPOSITORY)]
sys.modules["comfyui_ipex"] = package

import hosts  # noqa: E402
import probes  # noqa: E402


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(repeats: int, versions: list[str]) -> None:
    """Measure and write one line a host version."""
    for version in versions:
        host = hosts.installed(version)
        answers = [probes.ask(host, "load_extension", str(REPOSITORY)) for _ in range(repeats)]
        for name, parts in (
            ("prestart", [answer["prestart"] for answer in answers]),
            ("loading", answers),
        ):
            seconds = spread([part["seconds"] for part in parts])
            megabytes = spread([part["bytes"] / 1e6 for part in parts])
            sys.stdout.write(f"{version:8} {name:8} s: {seconds}   MB: {megabytes}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:] or list(hosts.VERSIONS))
