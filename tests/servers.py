"""Real ComfyUI servers with this extension, and workflows run through them."""

import io
import json
import os
import signal
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import hosts
import models
import numpy as np
import websocket
from comfyui_ipex.launcher.client import WorkflowError, raise_if_failed
from comfyui_ipex.launcher.errors import SetupError
from comfyui_ipex.launcher.folders import child_environment
from comfyui_ipex.launcher.installation import link_extension, prepare_base
from comfyui_ipex.launcher.server import Server, ServerCommand, free_port
from PIL import Image

WORKFLOWS = Path(__file__).parent / "workflows"

RUN_SECONDS = 600.0

REPORT_SECONDS = 30.0

FRESH_TRIES = 5

# Each idle server holds about 1 GB.
SERVERS_ALIVE = 3


@dataclass(frozen=True)
class Configuration:
    """How a server is started."""

    version: str
    arguments: tuple[str, ...] = ("--cpu",)
    extension: bool = True
    """Whether this extension is linked into custom_nodes."""
    emulator: tuple[str, ...] = ()
    """Arguments of the emulated XPU; none means that there is none."""
    nvidia: bool = False
    """Whether the server sees NVIDIA's cards."""
    settings: tuple[tuple[str, str], ...] = ()
    """More of the server's environment."""

    @property
    def name(self) -> str:
        """A name for folders and logs."""
        parts = [self.version, *self.arguments, *self.emulator, "" if self.extension else "bare"]
        return "-".join("".join(c for c in part if c.isalnum() or c in ".:") for part in parts)


TWO_CARDS = ("--device", "a770", "--count", "2")


def on_device(version: str, device: str) -> Configuration:
    """How a server is started whose workflows are to run on `device`, in fp32 throughout."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return Configuration(version)
    emulator = TWO_CARDS if kind == "xpu" else ()
    return Configuration(version, ("--force-fp32",), emulator=emulator, nvidia=kind == "cuda")


@dataclass
class Run:
    """What one execution of a workflow gave."""

    images: list[np.ndarray]
    """Saved pictures, uint8 [H, W, 3], in the order of their nodes."""
    executed: list[str]
    """Ids of the nodes that were executed, not taken from the cache."""
    events: list[dict[str, Any]] = field(repr=False, default_factory=list)

    def said(self, node: str) -> str:
        """The text that a node showed on the page; "" if it showed none."""
        shown = [event["data"] for event in self.events if event["type"] == "executed"]
        texts = [(data["output"] or {}).get("text", []) for data in shown if data["node"] == node]
        return "".join(part for text in texts for part in text)


class ComfyServer:
    """One running server."""

    def __init__(
        self, configuration: Configuration, folder: Path, cuda: str, weights: Path | None = None
    ) -> None:
        """`weights` is the folder of models: that of `models.written` where none is given."""
        self.configuration = configuration
        self.host = hosts.installed(configuration.version)
        base = prepare_base(folder, self.host.tree.path)
        if configuration.extension:
            link_extension(base)
        paths = folder / "model_paths.yaml"
        paths.write_text(models.model_paths(weights or models.written()), encoding="utf-8")
        arguments = ["--extra-model-paths-config", str(paths), *configuration.arguments]
        arguments.append("--disable-api-nodes")  # no test is about them, and they load slowly
        self.report_file = folder / "emulator.json"
        emulator: tuple[str, ...] = ()
        if configuration.emulator:
            report = ("--report", str(self.report_file))
            emulator = ("-m", "xpu_emulator", *configuration.emulator, *report, "--")
        command = ServerCommand(
            (str(self.host.python), *emulator),
            self.host.tree.path,
            base,
            free_port(),
            arguments,
        )
        environment = {
            **child_environment(),
            "PYTHONPATH": str(Path(__file__).parent),
            "OMP_NUM_THREADS": "1",
            # Nothing may be fetched while tests run; a try would only cost its time-out.
            "HF_HUB_OFFLINE": "1",
            # NVIDIA's libraries round fp32 convolutions to TF32 otherwise: up to 9 LSB.
            "NVIDIA_TF32_OVERRIDE": "0",
            "CUDA_VISIBLE_DEVICES": cuda if configuration.nvidia else "",
            **dict(configuration.settings),
        }
        self.log_file = folder / "server.log"
        self._log: IO[str] = self.log_file.open("w", encoding="utf-8")
        self.server = Server(command, self._log, environment)
        try:
            self.server.wait_ready()
        except SetupError as error:
            self.close()
            raise SetupError(error.what, why=self.log[-6000:], command=error.command) from error
        except BaseException:
            self.close()
            raise
        self.client = self.server.client

    @property
    def log(self) -> str:
        """Everything that the server printed so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Stop the server."""
        self.server.stop()
        self._log.close()

    def kill(self) -> None:
        """End the server as a crash would.

        What otherwise ends all that it has started is killed first; the kernel ends the server.
        """
        os.kill(self.server.child._guard.pid, signal.SIGKILL)
        self.server.child.wait()

    def emulated_cards(self) -> list[dict[str, Any]]:
        """What the emulated cards of this server counted so far."""
        self.report_file.unlink(missing_ok=True)
        self.server.child.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + REPORT_SECONDS
        while not self.report_file.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("The emulator wrote no report.")
            time.sleep(0.05)
        return list(json.loads(self.report_file.read_text(encoding="utf-8"))["devices"])

    def forget(self) -> None:
        """Ask the server to unload its models and forget cached results."""
        body = json.dumps({"unload_models": True, "free_memory": True}).encode()
        self.client.post("/free", body, "application/json")

    def run_fresh(self, workflow: Mapping[str, Any]) -> Run:
        """Run a workflow with nothing loaded or cached.

        The server takes `forget` up between prompts, at a moment of its own: until it has,
        some nodes come from the cache and the run is repeated. It may come to it only after the
        run, so that the next one finds nothing cached either.
        """
        for _ in range(FRESH_TRIES):
            self.forget()
            run = self.run(workflow)
            if set(run.executed) == set(workflow):
                return run
        raise AssertionError(f"only the nodes {run.executed} were executed, not all")

    def run(self, workflow: Mapping[str, Any]) -> Run:
        """Queue a workflow, wait until it ends, fetch its pictures.

        Raises `WorkflowError` if it is refused or fails.
        """
        events, record = self.execute(workflow)
        files = self.client.images(record)
        pictures = [_pixels(data) for node in sorted(files) for data in files[node]]
        return Run(pictures, executed_nodes(events), events)

    def execute(self, workflow: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Queue a workflow and wait until it ends: the server's messages, and its record.

        Raises `WorkflowError` if it is refused or fails.
        """
        client_id = uuid.uuid4().hex
        address = self.client.address.replace("http:", "ws:")
        socket = websocket.create_connection(
            f"{address}/ws?clientId={client_id}", timeout=RUN_SECONDS
        )
        try:
            prompt_id = self.client.queue(workflow, client_id)
            events = _events_until_end(socket, prompt_id)
        finally:
            socket.close()
        record = self.client.wait(prompt_id, RUN_SECONDS)
        raise_if_failed(record)
        return events, record


def executed_nodes(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The nodes that were executed, not taken from the cache, by the server's messages."""
    nodes = [event["data"]["node"] for event in events if event["type"] == "executing"]
    return [node for node in nodes if node is not None]


def _events_until_end(socket: "websocket.WebSocket", prompt_id: str) -> list[dict[str, Any]]:
    """The server's messages about a prompt, up to the one that says that it ended."""
    events: list[dict[str, Any]] = []
    while True:
        message = socket.recv()
        if isinstance(message, bytes):  # a preview picture
            continue
        event = json.loads(message)
        if event["data"].get("prompt_id", prompt_id) != prompt_id:
            continue
        events.append(event)
        if event["type"] == "execution_error":
            data = event["data"]
            raise WorkflowError(
                f"{data['node_type']}: {data['exception_type']}: {data['exception_message']}\n"
                + "".join(data["traceback"])
            )
        if event["type"] == "executing" and event["data"]["node"] is None:
            return events


def _pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


class ServerPool:
    """Running servers by configuration.

    The two of `on_device` that most tests of a version use stay while those tests run; of the
    others, which few tests use, the ones not used for longest are stopped.
    """

    def __init__(self, folder: Path, cuda: str = "") -> None:
        self.folder = folder
        self.cuda = cuda
        self.servers: OrderedDict[Configuration, ComfyServer] = OrderedDict()

    def get(self, configuration: Configuration) -> ComfyServer:
        """The server of this configuration, started if it does not run."""
        found = self.servers.pop(configuration, None)
        if found is None:
            lasting = {on_device(configuration.version, kind) for kind in ("cpu", "xpu")}
            while len(self.servers) >= SERVERS_ALIVE:
                passing = (one for one in self.servers if one not in lasting)
                self.servers.pop(next(passing)).close()
            folder = self.folder / f"{configuration.name[:80]}-{uuid.uuid4().hex[:6]}"
            found = ComfyServer(configuration, folder, self.cuda)
            found.client.upload_image("photo.png", models.photo())
        self.servers[configuration] = found
        return found

    def close(self) -> None:
        """Stop every server."""
        while self.servers:
            self.servers.popitem()[1].close()


def workflow(name: str, device: str = "auto") -> dict[str, Any]:
    """The workflow `name` in API format, its models placed on `device`."""
    loaded = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    for node in loaded.values():
        if node["class_type"].startswith("Ipex") and "device" in node["inputs"]:
            node["inputs"]["device"] = device
    return dict(loaded)


def without_our_nodes(workflow: dict[str, Any]) -> dict[str, Any]:
    """The same workflow for a bare host: what a node of ours hands on comes from before it."""
    ours = {key for key, node in workflow.items() if node["class_type"].startswith("Ipex")}
    sources = {
        key: next(v for v in workflow[key]["inputs"].values() if isinstance(v, list))
        for key in ours
    }
    for node in workflow.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in ours:
                node["inputs"][name] = sources[value[0]]
    return {key: node for key, node in workflow.items() if key not in ours}


def workflow_names() -> Sequence[str]:
    """The names of all test workflows."""
    return sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def peer_copies(cards: list[dict[str, Any]]) -> list[int]:
    """How many copies went to each emulated card from another one."""
    return [card["counters"]["peer"]["count"] for card in cards]
