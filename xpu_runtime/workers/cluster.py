"""Ray on this machine alone, owned by this process and gone with it.

Ray's processes listen on the loopback interface only and ask for a token that nobody else knows.
They end with the thread that started them, which lives as long as this process; `keeper.py` sees
to what a killed process cannot do itself.
"""

import logging
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..worker_plan import SETTING
from .errors import WorkerError

# The first is Ray's own name for: talk over the loopback interface. Without it Ray listens on
# every interface of the machine, on Linux.
SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray would hide every card from workers that ask it for none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would end workers when 95 % of the machine's memory are used, whoever uses it. The kernel
    # ends one only when there is none left, and Ray has it take workers before ComfyUI.
    "RAY_memory_monitor_refresh_ms": "0",
}

SLOTS = "comfyui_ipex_worker"
"""Ray's resource of which each worker takes one, so that Ray counts no processors."""

_MOST_WORKERS = 1000

_lock = threading.Lock()
_ray: Any = None
_failure: WorkerError | None = None
_folder = ""
_keeper: Any = None


def running() -> Any:
    """Ray's module, connected to this process's own cluster, which is started the first time.

    Raises `WorkerError` if Ray is not installed or cannot be started; then it is not tried again,
    because it has been imported with settings that belong to what failed.
    """
    global _ray, _failure
    with _lock:
        if _failure is not None:
            raise _failure
        if _ray is None:
            try:
                _ray = _in_a_lasting_thread(_started)
            except WorkerError as error:
                _failure = error
                raise
    return _ray


def folder() -> str:
    """Where this cluster keeps its sockets and logs; "" before it was started."""
    return _folder


def _started() -> Any:
    global _folder
    # Ray reads its settings when it is imported.
    with _environment({**SETTINGS, "RAY_AUTH_TOKEN": secrets.token_hex(32)}):
        ray = _imported()
        # Short, because the names of sockets below it may have 107 characters. Ray opens its own
        # folder to everybody, so that it lies in one that is ours alone.
        _folder = tempfile.mkdtemp(prefix="ipex-ray-")
        _watch(_folder)
        try:
            ray.init(
                num_cpus=0,
                num_gpus=0,
                resources={SLOTS: _MOST_WORKERS},
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=os.path.join(_folder, "ray"),
            )
        except Exception as error:  # Ray raises no better one where a machine is slow
            raise WorkerError(
                f"Ray could not be started for workers: {error} ComfyUI goes on without them. "
                "Start it again when the machine is less busy."
            ) from error
    return ray


def _imported() -> Any:
    if sys.modules.get("ray") is not None:
        raise WorkerError(
            "Workers cannot be started: something else in this process, perhaps another pack, has "
            "imported Ray already, and its settings cannot be changed any more. Remove it, or "
            f"leave {SETTING} empty."
        )
    try:
        import ray
    except ImportError as error:
        raise WorkerError(
            "Workers need the package ray, which this Python does not have. Install it into the "
            f"Python of ComfyUI and into the worker's: {sys.executable} -m pip install ray"
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def _watch(watched: str) -> None:
    """Start the process that clears up after this one, whatever ends it."""
    global _keeper
    _keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), watched],
        # Its other end is closed when this process is gone.
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that Ray's processes inherit, and later children of ours do not."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _in_a_lasting_thread(call: Callable[[], Any]) -> Any:
    """`call()`, made in a thread that ends with the process.

    Linux ends Ray's processes when the thread that started them ends.
    """
    outcome: dict[str, Any] = {}
    done = threading.Event()

    def work() -> None:
        try:
            outcome["result"] = call()
        except BaseException as error:  # noqa: BLE001 (it is raised in the caller's thread)
            outcome["error"] = error
        done.set()
        threading.Event().wait()

    threading.Thread(target=work, name="comfyui-ipex workers", daemon=True).start()
    done.wait()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
