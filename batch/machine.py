"""`./comfyui-ipex node`: makes this machine one of a Ray cluster, which offers its devices."""

import collections
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..launcher.console import say, warn
from ..launcher.folders import REPOSITORY
from ..launcher.server import STOP_SECONDS
from ..xpu_runtime import VERSION
from ..xpu_runtime.processes.child import Child
from .errors import BatchInputError
from .plans import ServerPlan
from .ray_settings import (
    DEVICE,
    LOOPBACK,
    address_of,
    check_token,
    environment,
    is_loopback,
    make_token,
)
from .remote import NODE_FILE

NO_DEVICES = "none"

READY = "Ray runtime started"
"""What `ray start` prints when it is."""

LAST_LINES = 15


def describe(plans: Sequence[ServerPlan], path: Path) -> None:
    """Write what an actor on this machine must know to start its server."""
    described = {
        "version": VERSION,
        "extension": str(REPOSITORY),
        "plans": [dataclasses.asdict(plan) for plan in plans],
    }
    path.write_text(json.dumps(described, indent=1), encoding="utf-8")


def resources(plans: Sequence[ServerPlan]) -> dict[str, int]:
    """Ray's resources of this machine: one of a name for each server."""
    return {DEVICE + plan.name: 1 for plan in plans}


def command(head: bool, listen: str, address: str, plans: Sequence[ServerPlan]) -> list[str]:
    """How Ray is started. `listen` is this machine's address, with a port for a head."""
    started = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    if head:
        ip, port = address_of(listen)
        started += ["--head", f"--port={port}", "--include-dashboard=false"]
    else:
        ip = listen
        started += [f"--address={address}"]
    started += [f"--node-ip-address={ip}", "--num-cpus=0", "--num-gpus=0"]
    return [*started, f"--resources={json.dumps(resources(plans))}", "--disable-usage-stats"]


def check(head: bool, listen: str, address: str) -> None:
    """Raises `BatchInputError` unless this is a head, or joins a cluster from its own address."""
    if head == bool(address):
        raise BatchInputError(
            "Either start a cluster with --head, or join one with --address IP:PORT."
        )
    if head:
        address_of(listen)
        return
    ip, _ = address_of(address)
    if not listen or ":" in listen:
        raise BatchInputError("Say at which address other machines reach this one: --listen IP.")
    if is_loopback(ip) or is_loopback(listen):
        raise BatchInputError(
            "A cluster on the loopback interface is one machine, and this starts it once. For "
            f"several machines start the head with an address that they reach, not {LOOPBACK}."
        )


def serve_cluster(
    head: bool, listen: str, address: str, token_file: Path | None, plans: Sequence[ServerPlan]
) -> int:
    """Run Ray until it is told to end; returns its status. Raises `BatchInputError`."""
    check(head, listen, address)
    if head and token_file is not None and make_token(token_file.expanduser()):
        say(f"A new token lies in {token_file}. Bring it to every machine of the cluster.")
    token = check_token(token_file)
    ip = listen.rpartition(":")[0] if head else listen
    if not is_loopback(ip):
        warn(
            "Ray listens on every interface of this machine, asks for the token and does not "
            "encrypt: have a firewall let in the cluster's machines alone."
        )
    with tempfile.TemporaryDirectory(prefix="ipex-machine-") as folder:
        described = Path(folder) / "machine.json"
        describe(plans, described)
        settings = {**os.environ, **environment(ip, token), NODE_FILE: str(described)}
        devices = ", ".join(plan.name for plan in plans) or "none"
        say(f"This machine's devices in the cluster: {devices}")
        if head:
            say(f"Batches: ./comfyui-ipex batch ... --address {listen} --token-file {token}")
        started = command(head, listen, address, plans)
        if head:
            # Ray's own default is shared between users.
            started += ["--temp-dir", str(Path(folder) / "ray")]
        for last in (False, False, True):
            status = _watch(started, settings)
            if status is not None:
                return status
            if not last:
                # It gives itself 30 s, which is not enough on a machine that is very busy.
                say("Ray did not start, and is tried again.")
        return 1


def _watch(started: Sequence[str], settings: Mapping[str, str]) -> int | None:
    """Run Ray, say when it is ready, and show its last words if it ends by itself.

    Returns its status, or None if it was never ready.
    """
    ready = False
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
    with Child(
        started,
        environment=settings,
        stdout=lines.put,
        stderr=subprocess.STDOUT,
        end_signal=signal.SIGINT,
        end_seconds=STOP_SECONDS,
    ) as ray:
        try:
            while line := lines.get():
                last.append(line.rstrip())
                if READY in line:
                    ready = True
                    say("Ready. Ctrl+C ends it.")
        except KeyboardInterrupt:
            return 0
        status = ray.wait()
        warn("Ray ended by itself. It said:\n" + "\n".join(last))
        return (status or 1) if ready else None
