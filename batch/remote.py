"""The actor that Ray starts on a machine for one of its devices. Standard library only.

Ray sends this class by value, because the machine cannot import it before it knows where its own
clone of this extension lies. The rest is imported from there.
"""

import importlib
import json
import os
import sys
import types
from typing import Any

NODE_FILE = "COMFYUI_IPEX_NODE"
"""In the environment of a machine's processes: the file that `machine.py` wrote."""

PACKAGE = "comfyui_ipex_batch"
"""The name of the machine's clone in this process."""


class ServerActor:
    """A `servers.BatchServer` of this machine.

    Answers are plain values: the two sides share no class.
    """

    def __init__(self, name: str, version: str) -> None:
        """`name` is the plan's, `version` that of the side that asks.

        Raises `RuntimeError` if this machine was not made for batches, or by another version.
        """
        if NODE_FILE not in os.environ:
            raise RuntimeError("this machine was not started with ./comfyui-ipex node")
        with open(os.environ[NODE_FILE], encoding="utf-8") as file:
            described = json.load(file)
        if described["version"] != version:
            raise RuntimeError(
                f"this machine runs comfyui-ipex {described['version']}, and the batch {version}: "
                "use the same on all machines"
            )
        package = types.ModuleType(PACKAGE)
        package.__path__ = [described["extension"]]
        sys.modules[PACKAGE] = package
        self._servers: Any = importlib.import_module(f"{PACKAGE}.batch.servers")
        plans: Any = importlib.import_module(f"{PACKAGE}.batch.plans")
        self._errors: Any = importlib.import_module(f"{PACKAGE}.batch.errors")
        plan = next(plan for plan in described["plans"] if plan["name"] == name)
        self._server = self._servers.BatchServer(plans.ServerPlan(**plan))

    def start(self) -> str:
        """Start the server; returns why that failed, or ""."""
        try:
            self._server.start()
        except self._errors.ServerGoneError as error:
            return str(error) or "it did not start"
        return ""

    def run_prompt(
        self, prompt: dict[str, Any], files: list[tuple[Any, ...]], timeout: float
    ) -> tuple[str, Any]:
        """("done", rows of node, name, bytes), or ("failed" or "gone", why)."""
        sent = [self._servers.SentFile(*row) for row in files]
        try:
            outputs = self._server.run_prompt(prompt, sent, timeout)
        except self._errors.JobFailedError as error:
            return "failed", str(error)
        except self._errors.ServerGoneError as error:
            return "gone", str(error)
        return "done", [(output.node, output.name, output.data) for output in outputs]

    def stop(self) -> None:
        self._server.stop()
