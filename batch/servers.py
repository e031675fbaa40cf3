"""One headless ComfyUI server on one device, on the loopback interface, for one batch.

It has output, input, temporary files and a database of its own; models and custom nodes are the
user's. What a prompt saved is handed over and removed here.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import urllib.error
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from ..launcher.client import Client, WorkflowError, raise_if_failed
from ..launcher.errors import SetupError
from ..launcher.server import Server, free_port
from .errors import JobFailedError, ServerGoneError
from .outputs import Output
from .plans import ServerPlan
from .workflow import Prompt, PromptNode

LONGEST_POLL_SECONDS = 0.1

SCRATCH = "comfyui-ipex-batch-"
"""Begins the names of servers' folders; the process that they belong to follows."""

LOG = "server.log"
FRESH_TRIES = 5
FORGET_SECONDS = 0.3
STOP_SECONDS = 5.0

END_SECONDS = 1.0
"""A server that does not answer may be ending; then its status says more."""

LOG_BYTES = 2000
"""How much of the end of a server's log an error shows."""

_UNREACHABLE = (urllib.error.URLError, HTTPException, OSError)


@dataclass(frozen=True)
class SentFile:
    node: str
    input: str
    suffix: str
    data: bytes


class BatchServer:
    """A server that runs one prompt at a time; `start` it first, and again after it was gone."""

    def __init__(self, plan: ServerPlan) -> None:
        self.name = plan.name
        self._plan = plan
        self._folder: Path | None = None
        self._log: IO[str] | None = None
        self._server: Server | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Start the server and wait until it answers. Raises `ServerGoneError`."""
        self._end()
        with self._lock:
            if self._stopped:
                raise ServerGoneError("the batch ends")
            folder = self._folder = _make_folder(Path(self._plan.input))
            self._log = (folder / LOG).open("w", encoding="utf-8")
            fcntl.flock(self._log, fcntl.LOCK_EX)
            command = self._plan.command(free_port(), _private_folders(folder))
            environment = _environment(command.environment(), self._plan)
            try:
                server = self._server = Server(
                    command, self._log, environment, folder=folder, stop_seconds=STOP_SECONDS
                )
            except OSError as error:
                raise ServerGoneError(f"it cannot be started: {error}") from error
        try:
            server.wait_ready()
            # Another process may have been quicker at taking the port.
            if str(folder) not in " ".join(
                server.client.get_json("/system_stats")["system"]["argv"]
            ):
                raise ServerGoneError("another server took its port")
        except (SetupError, *_UNREACHABLE) as error:
            what = error.what if isinstance(error, SetupError) else str(error)
            raise ServerGoneError(f"{what}\n{self._log_tail()}") from error

    def run_prompt(self, prompt: Prompt, files: Sequence[SentFile], timeout: float) -> list[Output]:
        """What the prompt saved, in the order of its nodes.

        Raises `JobFailedError` if it was refused, failed or saved nothing, and `ServerGoneError` if
        the server ended or did not finish within `timeout` seconds.
        """
        server, folder = self._server, self._folder
        if server is None or folder is None:
            raise ServerGoneError("it does not run")
        sent: dict[str, PromptNode] = {
            key: {**node, "inputs": {**node["inputs"]}} for key, node in prompt.items()
        }
        written = [_write_input(folder / "input", file, sent) for file in files]
        try:
            for _ in range(FRESH_TRIES):
                record = self._finished(server, sent, timeout)
                try:
                    return _collect(record, folder / "output")
                except FileNotFoundError:
                    _forget_results(server.client)
            raise JobFailedError("the server tells of files that are not there")
        except WorkflowError as error:
            raise JobFailedError(str(error)) from error
        except _UNREACHABLE as error:
            status = server.child.wait(END_SECONDS)
            ended = "it does not answer" if status is None else f"it ended with status {status}"
            raise ServerGoneError(f"{ended} ({error})\n{self._log_tail()}") from error
        finally:
            for path in written:
                path.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the server, also while a prompt runs, and remove its folder."""
        with self._lock:
            self._stopped = True
        self._end()

    def _finished(self, server: Server, prompt: Prompt, timeout: float) -> Any:
        began = time.monotonic()
        prompt_id = server.client.queue(prompt)
        while True:
            record = server.client.history(prompt_id)
            if record is not None:
                raise_if_failed(record)
                return record
            spent = time.monotonic() - began
            if spent > timeout:
                self._end()
                raise ServerGoneError(f"the prompt was not finished after {timeout:.0f} s")
            time.sleep(min(LONGEST_POLL_SECONDS, max(0.01, spent / 20)))

    def _end(self) -> None:
        with self._lock:
            server, self._server = self._server, None
            folder, self._folder = self._folder, None
            log, self._log = self._log, None
        if server is not None:
            server.stop()
        if log is not None:
            log.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _log_tail(self) -> str:
        folder = self._folder
        if folder is None:
            return ""
        try:
            with (folder / LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
                return file.read().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""  # the server is being stopped


def _forget_results(client: Client) -> None:
    """Have the server forget what it has cached: it names files that were handed over already.

    It does so between prompts, at a moment of its own.
    """
    body = json.dumps({"free_memory": True, "unload_models": False}).encode()
    client.post("/free", body, "application/json")
    time.sleep(FORGET_SECONDS)


def _make_folder(inputs: Path) -> Path:
    """A new folder of a server; the user's inputs are linked into its own."""
    _remove_stale(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-"))
    for name in ("input", "output", "temp"):
        (folder / name).mkdir()
    for path in inputs.iterdir() if inputs.is_dir() else ():
        (folder / "input" / path.name).symlink_to(path)
    return folder


def _remove_stale(parent: Path) -> None:
    """Remove folders of servers that were killed together with what would have removed them."""
    for folder in parent.glob(f"{SCRATCH}*"):
        owner = folder.name.removeprefix(SCRATCH).partition("-")[0]
        if Path(f"/proc/{owner}").exists():
            continue
        try:
            with (folder / LOG).open("r") as log:
                # The owner may be in another container.
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        shutil.rmtree(folder, ignore_errors=True)


def _private_folders(folder: Path) -> list[str]:
    return [
        *("--output-directory", str(folder / "output")),
        *("--input-directory", str(folder / "input")),
        *("--temp-directory", str(folder)),
        *("--database-url", f"sqlite:///{folder / 'comfyui.db'}"),
    ]


def _environment(inherited: dict[str, str], plan: ServerPlan) -> dict[str, str]:
    """A server's environment: no token of the cluster's, and its share of the processors."""
    kept = {key: value for key, value in inherited.items() if not key.startswith("RAY_")}
    if plan.threads:
        kept["OMP_NUM_THREADS"] = str(plan.threads)
    return kept


def _write_input(folder: Path, file: SentFile, prompt: Prompt) -> Path:
    """Put a file where the server looks for inputs, and its name into the prompt."""
    path = folder / f"batch-{hashlib.sha256(file.data).hexdigest()[:24]}{file.suffix}"
    path.write_bytes(file.data)
    prompt[file.node]["inputs"][file.input] = path.name
    return path


def _collect(record: Mapping[str, Any], folder: Path) -> list[Output]:
    """The files that a finished prompt saved; files of earlier prompts are removed.

    Raises `JobFailedError` if there are none, `FileNotFoundError` if one is gone.
    """
    found = []
    kept = set()
    for node in sorted(record["outputs"], key=_as_number):
        for saved in _saved(record["outputs"][node]):
            path = folder / saved.get("subfolder", "") / saved["filename"]
            found.append(Output(node, path.name, path.read_bytes()))
            kept.add(path)
    for path in folder.rglob("*"):
        # The server's cache may name those again, for the next prompt.
        if path.is_file() and path not in kept:
            path.unlink()
    if not found:
        raise JobFailedError("it saved no file: a node such as Save Image must end the workflow")
    return found


def _saved(output: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What one node saved, whatever kind of files it calls them."""
    for rows in output.values():
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and row.get("type") == "output" and row.get("filename"):
                yield row


def _as_number(node: str) -> tuple[int, str]:
    return (int(node), "") if node.isdigit() else (1 << 62, node)
