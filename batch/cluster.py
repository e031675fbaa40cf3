"""Servers on the machines of a Ray cluster: one for each device that `./comfyui-ipex node` offers.

Ray starts the actors, carries prompts and results, and tells which machines are there. Which prompt
goes where is `board.py`'s, on a cluster as on one machine: Ray's own retries wait for the same
actor, and its actor pool gives prompts to actors that have died.
"""

import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..xpu_runtime import VERSION
from . import remote
from .errors import BatchInputError, JobFailedError, ServerGoneError
from .outputs import Output
from .ray_settings import DEVICE, address_of, check_token, environment, is_loopback
from .servers import SentFile
from .workflow import Prompt

STOP_SECONDS = 10.0


class Cluster:
    """A connection to a cluster; this machine must be one of it."""

    def __init__(self, address: str, token: Path | None) -> None:
        """Connect to "IP:PORT". Raises `BatchInputError` if that cannot be."""
        ip, _ = address_of(address)
        # Ray reads its settings when it is imported.
        os.environ.update(environment(ip, check_token(token)))
        self._ray: Any = _imported()
        self._known: set[tuple[str, str]] = set()
        own = {"_node_ip_address": ip} if is_loopback(ip) else {}
        try:
            with _quiet():
                self._ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
        except (self._ray.exceptions.RayError, RuntimeError, OSError, ValueError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise BatchInputError(
                f"The cluster at {address} cannot be used: {lines[0] if lines else error!r}. Check "
                "the address and the token. The batch runs on a machine of the cluster: make this "
                f"one a node with ./comfyui-ipex node --address {address} (--devices none if it "
                "is to compute nothing)."
            ) from error
        self._ray.cloudpickle.register_pickle_by_value(remote)

    def find_servers(self) -> list["ClusterServer"]:
        """The servers that were not answered before, of machines that are there now."""
        found = []
        for machine in self._ray.nodes():
            if not machine["Alive"]:
                continue
            for resource in sorted(machine["Resources"]):
                key = (machine["NodeID"], resource)
                if resource.startswith(DEVICE) and key not in self._known:
                    self._known.add(key)
                    found.append(ClusterServer(self._ray, machine, resource))
        return found

    def close(self) -> None:
        """Leave the cluster; actors that are left end by that."""
        self._ray.shutdown()


class ClusterServer:
    """A server on another machine, as an actor there: the pool's `PoolMember`."""

    def __init__(self, ray: Any, machine: Mapping[str, Any], resource: str) -> None:
        self._ray = ray
        self._machine = str(machine["NodeID"])
        self._resource = resource
        self._plan = resource.removeprefix(DEVICE)
        self.name = f"{self._plan}@{machine['NodeName']}/{self._machine[:6]}"
        self._actor: Any = None
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Have the machine start the server; waits while another batch has its device.

        Raises `ServerGoneError`.
        """
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        strategy = strategies.NodeAffinitySchedulingStrategy(self._machine, soft=False)
        self._kill()
        with self._lock:
            if self._stopped:
                raise ServerGoneError("the batch ends")
            self._actor = (
                self._ray.remote(remote.ServerActor)
                .options(
                    num_cpus=0,
                    resources={self._resource: 1},
                    scheduling_strategy=strategy,
                    max_restarts=0,
                    max_concurrency=2,
                )
                .remote(self._plan, VERSION)
            )
        why = self._answer("start")
        if why:
            raise ServerGoneError(why)

    def run_prompt(self, prompt: Prompt, files: Sequence[SentFile], timeout: float) -> list[Output]:
        """Run one prompt there. Raises `JobFailedError` and `ServerGoneError`."""
        rows = [(file.node, file.input, file.suffix, file.data) for file in files]
        outcome, value = self._answer("run_prompt", dict(prompt), rows, timeout)
        if outcome == "failed":
            raise JobFailedError(value)
        if outcome == "gone":
            raise ServerGoneError(value)
        return [Output(*row) for row in value]

    def stop(self) -> None:
        """End the actor, and its server with it."""
        with self._lock:
            self._stopped = True
        self._kill()

    def _kill(self) -> None:
        with self._lock:
            actor, self._actor = self._actor, None
        if actor is None:
            return
        # The server ends with the actor's process in any case; asked first, it leaves no files.
        self._ray.wait([actor.stop.remote()], timeout=STOP_SECONDS)
        self._ray.kill(actor)

    def _answer(self, method: str, *arguments: Any) -> Any:
        actor = self._actor
        if actor is None:
            raise ServerGoneError("it does not run")
        try:
            return self._ray.get(getattr(actor, method).remote(*arguments))
        except self._ray.exceptions.RayError as error:
            raise ServerGoneError(_reason(error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Ray's native part writes for each of its tries; its exception tells enough."""
    sys.stderr.flush()
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


def _reason(error: Exception) -> str:
    """Why an actor does not answer, in a line."""
    own = "RuntimeError: this machine"
    if own in str(error):
        return f"this machine{str(error).rpartition(own)[2].splitlines()[0]}"
    if "TaskError" in type(error).__name__:
        return f"it failed: {str(error).strip().splitlines()[-1]}"
    return f"its machine or process ended ({type(error).__name__})"


def _imported() -> Any:
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise BatchInputError(
            "A cluster needs the package ray, which this Python does not have: pip install ray, "
            "or start the batch with ./comfyui-ipex, which installs it."
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray
