"""Other processes with torch for another maker's cards, whose devices stand in our menus.

`COMFYUI_IPEX_WORKERS` names interpreters. Each becomes a child process (`process`), which takes
one call after another (`serving`).
"""

import os
import time
from collections.abc import Mapping

from ..devices import Device
from ..log import LOGGER
from ..worker_plan import asked_for
from .errors import NotOnWorkerError, WorkerError
from .worker import Resident, Worker

_workers: dict[str, Worker] = {}
"""Those that could be started, by name."""


def start(environ: Mapping[str, str] = os.environ) -> None:
    """Start the workers that the settings ask for. One that fails is an error in the log.

    Returns when all have told their devices. Raises `ValueError` if the setting cannot be read.
    """
    for plan in asked_for(environ):
        if plan.name in _workers:
            continue
        began = time.monotonic()
        worker = Worker(plan)
        try:
            worker.start()
        except WorkerError as error:
            LOGGER.error("comfyui-ipex: %s", error)
            continue
        _workers[plan.name] = worker
        there = ", ".join(device.entry for device in worker.devices) or "no devices"
        seconds = time.monotonic() - began
        LOGGER.info("comfyui-ipex: worker %r in %.1f s: %s", plan.name, seconds, there)


def started() -> tuple[Worker, ...]:
    return tuple(_workers.values())


def devices() -> tuple[Device, ...]:
    """The devices of all workers, named with "@" and their worker."""
    return tuple(device for worker in _workers.values() for device in worker.devices)


def find(name: str) -> Worker:
    """The worker of this name. Raises `KeyError`."""
    return _workers[name]


__all__ = [
    "NotOnWorkerError",
    "Resident",
    "Worker",
    "WorkerError",
    "devices",
    "find",
    "start",
    "started",
]
