"""Where the launcher keeps things, after the XDG base directory specification."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def user_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """What can be fetched or made again: ComfyUI trees, demo weights, test checkpoints."""
    root = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "comfyui-ipex"


def user_data(environ: Mapping[str, str] = os.environ) -> Path:
    """ComfyUI's base directory when the launcher brought the host: models, input, output."""
    chosen = environ.get("COMFYUI_IPEX_HOME")
    if chosen:
        return Path(chosen).expanduser().resolve()
    root = environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(root) / "comfyui-ipex"


def child_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a Python that runs a ComfyUI tree which must not be written to.

    Bytecode goes to the user's cache; without any, each start would take twice as long.
    """
    environment = {**environ, "PYTHONPYCACHEPREFIX": str(user_cache(environ) / "pycache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`: two launchers at once take turns instead of mixing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
