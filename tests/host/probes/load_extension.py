"""Runs inside a host's process: what does loading this extension change, cost and say?

usage: load_extension.py REPOSITORY        (working directory: the host's tree)
Prints one line of JSON.
"""

import asyncio
import contextlib
import importlib.util
import inspect
import io
import json
import logging
import sys
import tempfile
import time
import types
from collections.abc import Iterator
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


def run_prestart(folder: Path) -> None:
    """Run a pack's prestartup_script.py as the host's main.py does."""
    script = folder / "prestartup_script.py"
    spec = importlib.util.spec_from_file_location(str(script.with_suffix("")), script)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def take_state_after_import(repository: Path, state: dict[str, Any]) -> None:
    """Fill `state` with the model management's own, before anybody who listens changes it.

    Who is asked first listens outside: call this before others do.
    """
    package = types.ModuleType("comfyui_ipex_for_the_probe")
    package.__path__ = [str(repository)]
    sys.modules[package.__name__] = package
    hook = importlib.import_module(f"{package.__name__}.xpu_runtime.import_hook")
    name = "comfy.model_management"
    hook.around_import(name, lambda: None, lambda: state.update(public_state(sys.modules[name])))


@contextlib.contextmanager
def observed(answer: dict[str, Any]) -> Iterator[None]:
    """Fill `answer` with what happens inside: modules, what is printed, seconds and bytes."""
    printed = io.StringIO()
    before = set(sys.modules)
    process = psutil.Process()
    memory = process.memory_info().rss
    began, used = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield
    answer["seconds"] = time.perf_counter() - began
    answer["processor seconds"] = time.process_time() - used
    answer["bytes"] = process.memory_info().rss - memory
    answer["modules"] = sorted(set(sys.modules) - before)
    answer["printed"] = printed.getvalue()


def load(repository: Path) -> dict[str, Any]:
    """Prestart and load the extension as the host does, and say what happened."""
    import folder_paths  # noqa: F401  (main.py has imported it when it runs prestart scripts)

    records = Records()
    logging.getLogger().addHandler(records)
    logging.getLogger().setLevel(logging.INFO)
    state: dict[str, Any] = {}
    take_state_after_import(repository, state)
    prestart: dict[str, Any] = {}
    with observed(prestart):
        run_prestart(repository)
    prestart["log"] = list(records.lines)

    import comfy.model_management

    import nodes

    load_an_empty_pack()
    records.lines.clear()
    known = set(nodes.NODE_CLASS_MAPPINGS)
    loading: dict[str, Any] = {"prestart": prestart}
    with observed(loading):
        loading["loaded"] = load_pack(repository)
    return loading | {
        "log": records.lines,
        "changed": differences(state, public_state(comfy.model_management)),
        "nodes": sorted(set(nodes.NODE_CLASS_MAPPINGS) - known),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    sys.path.insert(0, str(Path.cwd()))
    # The host reads the command line when it is imported.
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    sys.stdout.write(json.dumps(load(target)) + "\n")
