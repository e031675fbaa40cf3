"""Hosts on the nodes of a Ray cluster: each device of each node that `./comfyui-ipex node` started.

Ray starts the actors, carries prompts and results, and tells which nodes are there. Which prompt
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
from .errors import HostGoneError, InputError, JobFailedError
from .hosting import Sent
from .outputs import Output
from .ray_settings import DEVICE, address_of, check_token, environment, is_loopback

STOP_SECONDS = 10.0


class Cluster:
    """A connection to a cluster; this machine must be one of its nodes."""

    def __init__(self, address: str, token: Path | None) -> None:
        """Connect to "IP:PORT". Raises `InputError` if that cannot be."""
        host, _ = address_of(address)
        # Ray reads its settings when it is imported.
        os.environ.update(environment(host, check_token(token)))
        self._ray: Any = _imported()
        self._known: set[tuple[str, str]] = set()
        own = {"_node_ip_address": host} if is_loopback(host) else {}
        try:
            with _quiet():
                self._ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
        except (self._ray.exceptions.RayError, RuntimeError, OSError, ValueError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise InputError(
                f"The cluster at {address} cannot be used: {lines[0] if lines else error!r}. Check "
                "the address and the token. The batch runs on a machine of the cluster: make this "
                f"one a node with ./comfyui-ipex node --address {address} (--devices none if it "
                "is to compute nothing)."
            ) from error
        self._ray.cloudpickle.register_pickle_by_value(remote)

    def members(self) -> list["NodeHost"]:
        """The hosts that were not answered before, of nodes that are there now."""
        found = []
        for node in self._ray.nodes():
            if not node["Alive"]:
                continue
            for resource in sorted(node["Resources"]):
                key = (node["NodeID"], resource)
                if resource.startswith(DEVICE) and key not in self._known:
                    self._known.add(key)
                    found.append(NodeHost(self._ray, node, resource))
        return found

    def close(self) -> None:
        """Leave the cluster; actors that are left end by that."""
        self._ray.shutdown()


class NodeHost:
    """A host on another node, as an actor there: the pool's `Member`."""

    def __init__(self, ray: Any, node: Mapping[str, Any], resource: str) -> None:
        self._ray = ray
        self._node = str(node["NodeID"])
        self._resource = resource
        self._plan = resource.removeprefix(DEVICE)
        self.name = f"{self._plan}@{node['NodeName']}/{self._node[:6]}"
        self._actor: Any = None
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Have the node start the host; waits while another batch has its device.

        Raises `HostGoneError`.
        """
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        strategy = strategies.NodeAffinitySchedulingStrategy(self._node, soft=False)
        self._kill()
        with self._lock:
            if self._stopped:
                raise HostGoneError("the batch ends")
            self._actor = (
                self._ray.remote(remote.RemoteHost)
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
            raise HostGoneError(why)

    def run(self, prompt: Mapping[str, Any], files: Sequence[Sent], timeout: float) -> list[Output]:
        """Run one prompt there. Raises `JobFailedError` and `HostGoneError`."""
        rows = [(file.node, file.input, file.suffix, file.data) for file in files]
        outcome, value = self._answer("run", dict(prompt), rows, timeout)
        if outcome == "failed":
            raise JobFailedError(value)
        if outcome == "gone":
            raise HostGoneError(value)
        return [Output(*row) for row in value]

    def stop(self) -> None:
        """End the actor, and its host with it."""
        with self._lock:
            self._stopped = True
        self._kill()

    def _kill(self) -> None:
        with self._lock:
            actor, self._actor = self._actor, None
        if actor is None:
            return
        # The host ends with the actor's process in any case; asked first, it leaves no files.
        self._ray.wait([actor.stop.remote()], timeout=STOP_SECONDS)
        self._ray.kill(actor)

    def _answer(self, method: str, *arguments: Any) -> Any:
        actor = self._actor
        if actor is None:
            raise HostGoneError("it does not run")
        try:
            return self._ray.get(getattr(actor, method).remote(*arguments))
        except self._ray.exceptions.RayError as error:
            raise HostGoneError(_reason(error)) from error


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
    if "RuntimeError: this node" in str(error):
        return "this node" + str(error).rpartition("RuntimeError: this node")[2].splitlines()[0]
    if "TaskError" in type(error).__name__:
        return f"it failed: {str(error).strip().splitlines()[-1]}"
    return f"its node or process ended ({type(error).__name__})"


def _imported() -> Any:
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise InputError(
            "A cluster needs the package ray, which this Python does not have: pip install ray, "
            "or start the batch with ./comfyui-ipex, which installs it."
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray
