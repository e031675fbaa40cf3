"""Start a ComfyUI server as a child process, wait until it answers, stop it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..xpu_runtime.processes.child import Child
from .client import Client
from .errors import SetupError
from .folders import child_environment

READY_SECONDS = 300.0
STOP_SECONDS = 15.0


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class ServerCommand:
    python: Sequence[str]
    """The interpreter and what stands before main.py."""
    tree: Path
    """The ComfyUI tree; it is never written to."""
    base: Path | None
    """The base directory, or None when the tree itself is the user's base."""
    port: int
    arguments: Sequence[str] = ()
    """More arguments for main.py."""
    device_setting: str = "auto"
    """COMFYUI_IPEX_DEVICE, by the numbers that the child will see."""
    workers_setting: str = ""
    """COMFYUI_IPEX_WORKERS."""

    def argv(self) -> list[str]:
        command = [*self.python, str(self.tree / "main.py"), "--port", str(self.port)]
        command.append("--disable-auto-launch")
        if self.base is not None:
            database = self.base / "user" / "comfyui.db"
            command += ["--base-directory", str(self.base)]
            # Its default lies inside the tree.
            command += ["--database-url", f"sqlite:///{database}"]
        return [*command, *self.arguments]

    def environment(self) -> dict[str, str]:
        """The child's environment: no bytecode goes into a tree that is not the user's own."""
        environment = dict(os.environ) if self.base is None else child_environment()
        environment["COMFYUI_IPEX_DEVICE"] = self.device_setting
        environment["COMFYUI_IPEX_WORKERS"] = self.workers_setting
        return environment


class Server:
    """A running server; a context manager that stops it. It ends with this process in any case.

    `log` receives what the server prints; None lets it print to this process's streams. `folder`
    is removed after the server's end.
    """

    def __init__(
        self,
        command: ServerCommand,
        log: IO[str] | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        folder: Path | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.command = command
        self.client = Client(f"http://127.0.0.1:{command.port}")
        if command.base is not None:
            (command.base / "user").mkdir(parents=True, exist_ok=True)
        self.child = Child(
            command.argv(),
            environment=command.environment() if environment is None else environment,
            cwd=command.tree,
            stdout=log,
            stderr=None if log is None else subprocess.STDOUT,
            end_signal=signal.SIGINT,
            end_seconds=stop_seconds,
            folder=folder,
        )

    def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Return once the server answers.

        Raises `SetupError` if it ends before that or does not answer within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            status = self.child.status
            if status is not None:
                raise SetupError(
                    f"ComfyUI ended with status {status} before it was ready.",
                    remedy="Its own messages above say why.",
                    command=self.command.argv(),
                )
            if self.client.is_ready():
                return
            time.sleep(0.1)
        raise SetupError(
            f"ComfyUI did not answer within {timeout:.0f} s.", command=self.command.argv()
        )

    def stop(self) -> int:
        """Ask the server to end, insist after a while, and return its exit status."""
        status = self.child.stop()
        return 1 if status is None else status

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
