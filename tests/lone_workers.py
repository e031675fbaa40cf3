"""Workers with a real process and the real transport, but without a host in it or here.

Run as a program, this module is a parent that has a worker compute and waits to be killed:
`lone_workers.py FOLDER`. It writes the worker's process id.
"""

import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex.xpu_runtime import host
from comfyui_ipex.xpu_runtime.worker_plan import WorkerPlan
from comfyui_ipex.xpu_runtime.workers import process
from comfyui_ipex.xpu_runtime.workers.worker import Worker

REPOSITORY = Path(__file__).resolve().parent.parent

PACKAGE = "xpu_runtime"

SERVING = """
from .. import host, prestart, runtime
from . import real_serving

interrupted = []

class StoppedError(Exception):
    pass

def check_interrupted():
    if interrupted:
        raise StoppedError

def nothing(*_, **__):
    return None

for name in ("take_arguments", "load_model_management", "use_model_folders", "watch_progress",
             "forget_unused_models"):
    setattr(host, name, nothing)
host.check_interrupted = check_interrupted
host.interrupt = lambda: interrupted.append(1)
host.forget_interruption = interrupted.clear
host.interruption = StoppedError
host.is_interruption = lambda error: isinstance(error, StoppedError)
prestart.prepare = nothing
runtime.start = nothing

class Serving(real_serving.Serving):
    def __init__(self, setup):
        super().__init__(setup)
        print("The worker says hello", flush=True)
        if setup["kind"] == "cuda":
            raise SystemExit("There is no such card.")
        self.describe()
"""


def make_extension(folder: Path) -> Path:
    """A copy of this extension, made of links, whose workers do without a host."""
    runtime = folder / PACKAGE
    (runtime / "workers").mkdir(parents=True)
    for file in (REPOSITORY / PACKAGE).iterdir():
        if file.name != "workers":
            (runtime / file.name).symlink_to(file)
    for file in (REPOSITORY / PACKAGE / "workers").glob("*.py"):
        name = "real_serving.py" if file.name == "serving.py" else file.name
        (runtime / "workers" / name).symlink_to(file)
    (runtime / "workers" / "serving.py").write_text(SERVING, encoding="utf-8")
    return folder


def do_without_host(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Start workers of the extension in `folder`, and ask no host about anything."""
    patch.setattr(process, "EXTENSION", folder)
    patch.setattr(host, "tree", lambda: str(folder))
    patch.setattr(host, "changed_arguments", dict)
    patch.setattr(host, "folder_table", dict)
    patch.setattr(host, "check_interrupted", lambda: None)


def lone_worker(kind: str = "cpu") -> Worker:
    """One that was not started."""
    return Worker(WorkerPlan("worker", kind, (sys.executable,)))


def sent_by_value(function: Callable[..., Any], module: types.ModuleType) -> Any:
    """`function` as one of a module that a worker can import, whose names it uses."""
    return types.FunctionType(function.__code__, vars(module), function.__name__)


def sleep_long() -> None:
    """For the module `time`."""
    sleep(600)  # type: ignore[name-defined]  # noqa: F821


def main() -> None:
    """The parent."""
    patch = pytest.MonkeyPatch()
    do_without_host(patch, Path(sys.argv[1]))
    worker = lone_worker()
    worker.start()
    worker.begin(sent_by_value(sleep_long, time))
    sys.stdout.write(f"{worker.process}\n")
    sys.stdout.flush()
    while os.getppid() != 1:
        time.sleep(600)


if __name__ == "__main__":
    main()
