"""Runs inside a host's process: what does loading this extension change, cost and say?

usage: load_extension.py REPOSITORY        (working directory: the host's tree)
Prints one line of JSON.
"""

import asyncio
import contextlib
import inspect
import io
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil


def public_state(module: Any) -> dict[str, Any]:
    """Every public attribute of a module."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names that appeared, disappeared or are another object."""
    names = before.keys() | after.keys()
    return sorted(n for n in names if before.get(n, names) is not after.get(n, names))


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep logger, level and message."""
        self.lines.append((record.name, record.levelname, record.getMessage()))


def load_pack(folder: Path) -> bool:
    """Load a custom-node pack with the host's own function."""
    import nodes

    loaded = nodes.load_custom_node(str(folder))
    return bool(asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded)


def load_an_empty_pack() -> None:
    """What the host imports to load any pack must not count as ours."""
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder, "empty-pack")
        pack.mkdir()
        (pack / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
        (pack / "pyproject.toml").write_text('[project]\nname = "empty-pack"\nversion = "1.0.0"\n')
        load_pack(pack)


def load(repository: Path) -> dict[str, Any]:
    """Load the extension as the host does, and say what happened."""
    import comfy.model_management
    import comfy.options

    import nodes

    load_an_empty_pack()
    records, printed = Records(), io.StringIO()
    logging.getLogger().addHandler(records)
    logging.getLogger().setLevel(logging.INFO)
    modules_before = set(sys.modules)
    nodes_before = set(nodes.NODE_CLASS_MAPPINGS)
    state_before = public_state(comfy.model_management)
    process = psutil.Process()
    memory_before = process.memory_info().rss
    began = time.perf_counter()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        loaded = load_pack(repository)
    seconds = time.perf_counter() - began
    memory = process.memory_info().rss - memory_before
    return {
        "loaded": loaded,
        "changed": differences(state_before, public_state(comfy.model_management)),
        "nodes": sorted(set(nodes.NODE_CLASS_MAPPINGS) - nodes_before),
        "modules": sorted(set(sys.modules) - modules_before),
        "printed": printed.getvalue(),
        "log": records.lines,
        "seconds": seconds,
        "bytes": memory,
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    sys.path.insert(0, str(Path.cwd()))
    # The host reads the command line when it is imported.
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    sys.stdout.write(json.dumps(load(target)) + "\n")
