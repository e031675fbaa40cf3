"""`./comfyui-ipex node`: makes this machine a node of a Ray cluster that offers its devices."""

import collections
import dataclasses
import json
import os
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
from .errors import InputError
from .hosting import LEASH
from .plans import HostPlan
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


def describe(plans: Sequence[HostPlan], path: Path) -> None:
    """Write what an actor on this machine must know to start its host."""
    described = {
        "version": VERSION,
        "extension": str(REPOSITORY),
        "plans": [dataclasses.asdict(plan) for plan in plans],
    }
    path.write_text(json.dumps(described, indent=1), encoding="utf-8")


def resources(plans: Sequence[HostPlan]) -> dict[str, int]:
    """Ray's resources of this machine: one of a name for each host."""
    return {DEVICE + plan.name: 1 for plan in plans}


def command(head: bool, listen: str, address: str, plans: Sequence[HostPlan]) -> list[str]:
    """How Ray is started. `listen` is this machine's address, with a port for a head."""
    started = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    if head:
        host, port = address_of(listen)
        started += ["--head", f"--port={port}", "--include-dashboard=false"]
    else:
        host = listen
        started += [f"--address={address}"]
    started += [f"--node-ip-address={host}", "--num-cpus=0", "--num-gpus=0"]
    return [*started, f"--resources={json.dumps(resources(plans))}", "--disable-usage-stats"]


def leash(folder: str) -> list[str]:
    """What stands before a program that must end with this process."""
    return [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), folder]


def check(head: bool, listen: str, address: str) -> None:
    """Raises `InputError` unless this is a head, or joins a cluster from an address of its own."""
    if head == bool(address):
        raise InputError("Either start a cluster with --head, or join one with --address IP:PORT.")
    if head:
        address_of(listen)
        return
    host, _ = address_of(address)
    if not listen or ":" in listen:
        raise InputError("Say at which address other nodes reach this machine: --listen IP.")
    if is_loopback(host) or is_loopback(listen):
        raise InputError(
            "A cluster on the loopback interface is one machine, which needs one node. For "
            f"several machines start the head with an address that they reach, not {LOOPBACK}."
        )


def serve(
    head: bool, listen: str, address: str, token_file: Path | None, plans: Sequence[HostPlan]
) -> int:
    """Run the node until it is told to end; returns its status. Raises `InputError`."""
    check(head, listen, address)
    if head and token_file is not None and make_token(token_file.expanduser()):
        say(f"A new token lies in {token_file}. Bring it to every machine of the cluster.")
    token = check_token(token_file)
    host = listen.rpartition(":")[0] if head else listen
    if not is_loopback(host):
        warn(
            "Ray listens on every interface of this machine, asks for the token and does not "
            "encrypt: have a firewall let in the cluster's machines alone."
        )
    with tempfile.TemporaryDirectory(prefix="ipex-node-") as folder:
        described = Path(folder) / "node.json"
        describe(plans, described)
        settings = {**os.environ, **environment(host, token), NODE_FILE: str(described)}
        devices = ", ".join(plan.name for plan in plans) or "none"
        say(f"This machine's devices in the cluster: {devices}")
        if head:
            say(f"Batches: ./comfyui-ipex batch ... --address {listen} --token-file {token}")
        started = command(head, listen, address, plans)
        if head:
            # Ray's own default is shared between users.
            started += ["--temp-dir", str(Path(folder) / "ray")]
        for last in (False, False, True):
            status = _watched([*leash(folder), *started], settings)
            if status is not None:
                return status
            if not last:
                # It gives itself 30 s, which is not enough on a machine that is very busy.
                say("Ray did not start, and is tried again.")
        return 1


def _watched(started: Sequence[str], settings: Mapping[str, str]) -> int | None:
    """Run Ray, say when it is ready, and show its last words if it ends by itself.

    Returns its status, or None if it was never ready.
    """
    ready = False
    with subprocess.Popen(
        started, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        try:
            for line in process.stdout or ():
                last.append(line.rstrip())
                if READY in line:
                    ready = True
                    say("Ready. Ctrl+C ends it.")
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
            return 0
        warn("Ray ended by itself. It said:\n" + "\n".join(last))
        return (process.wait() or 1) if ready else None
