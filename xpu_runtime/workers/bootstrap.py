"""The actor that Ray starts in a worker's process. Standard library only.

Ray sends this class by value, because the worker cannot import it before it knows where this
extension lies. Everything else is imported there, from the same folder.
"""

import importlib
import os
import sys
import types
from typing import Any

PACKAGE = "comfyui_ipex_worker"
"""The name of this extension in a worker's process."""


class WorkerActor:
    """Loads ComfyUI and this extension in the worker's process, and passes calls on."""

    def __init__(self, setup: dict[str, Any]) -> None:
        """`setup`: "extension" and "tree" are folders, "threads" is the host's OMP_NUM_THREADS.

        The rest is for `serving.Serving`.
        """
        os.chdir(setup["tree"])
        sys.path.insert(0, setup["tree"])
        # Ray has set it to 1 for this call, in which torch is imported: then everything that is
        # computed on the processor would have one core.
        os.environ.pop("OMP_NUM_THREADS", None)
        if setup["threads"]:
            os.environ["OMP_NUM_THREADS"] = setup["threads"]
        # The host parses the command line when it is imported, and this one is Ray's.
        sys.argv = ["main.py"]
        package = types.ModuleType(PACKAGE)
        # Without running its __init__.py: that one is for a server.
        package.__path__ = [setup["extension"]]
        sys.modules[PACKAGE] = package
        serving = importlib.import_module(f"{PACKAGE}.xpu_runtime.workers.serving")
        try:
            self._serving = serving.Serving(setup)
        except SystemExit as error:
            # Settings that cannot be met end a host; here the reason must reach it.
            raise RuntimeError(str(error)) from error

    def describe(self) -> dict[str, Any]:
        """Process id and devices."""
        return dict(self._serving.describe())

    def part(self, ticket: str, rows: list[Any]) -> None:
        """Tensors of a call that follows."""
        self._serving.part(ticket, rows)

    def run(self, pickled: bytes, rows: list[Any], ticket: str, keep: str) -> Any:
        """A call's result, or its failure."""
        return self._serving.run(pickled, rows, ticket, keep)

    def drop(self, keys: list[str]) -> None:
        """Forget objects that were kept."""
        self._serving.drop(keys)

    def report(self) -> Any:
        """What the report says of this process."""
        return self._serving.report()

    def progress(self) -> tuple[int, int]:
        """How far the running call is."""
        done, total = self._serving.progress
        return int(done), int(total)

    def abandon(self, ticket: str) -> None:
        """Leave out the call of this name, or have it stop at its next chance."""
        self._serving.abandon(ticket)
