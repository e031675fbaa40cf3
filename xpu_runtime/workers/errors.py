"""What goes wrong between this process and a worker, as a user reads it."""

import builtins
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from .. import host
from ..errors import is_device_lost, is_out_of_memory
from ..worker_plan import WorkerPlan

LOST = "lost"
"""The nature of an error after which a worker's process cannot use its card any more."""

# Kinds of errors that may be raised with a text alone; others are raised as their nearest base.
_PLAIN = (
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "FileNotFoundError",
    "ImportError",
    "IndexError",
    "KeyError",
    "MemoryError",
    "NotImplementedError",
    "OSError",
    "RuntimeError",
    "TypeError",
    "ValueError",
    "ZeroDivisionError",
)


class WorkerError(RuntimeError):
    """A worker that cannot be started, or that ended and could not be replaced."""


class NotOnWorkerError(AttributeError):
    """Something that cannot be done with what is placed on a worker."""

    def __init__(self, owner: str, attribute: str, worker: str) -> None:
        super().__init__(
            f"{owner} is placed on the worker {worker!r}, which is another process: its "
            f"{attribute!r} cannot be used here. Connect this node to what comes before Select "
            "Device, or set that node's device to 'auto'."
        )


class WorkerGoneError(Exception):
    """The worker's process ended while it was asked, or cannot be used any more."""


class RemoteTraceback(Exception):  # noqa: N818 (no error of its own: the cause of another one)
    """A worker's own traceback, as the cause of the error that is raised here."""


@dataclass(frozen=True)
class Failure:
    """An error that a call met in a worker."""

    nature: str
    """ "memory", "interrupt", `LOST` or "error"."""
    kind: str
    """The nearest of its classes that Python itself has."""
    text: str
    traceback: str


def failure_of(error: BaseException, traceback: str) -> Failure:
    """`error`, met in this worker, as it crosses to the host."""
    nature = "error"
    if host.is_interruption(error):
        nature = "interrupt"
    elif is_device_lost(error):
        nature = LOST
    elif is_out_of_memory(error):
        nature = "memory"
    kinds = (kind.__name__ for kind in type(error).__mro__)
    kind = next((name for name in kinds if name in _PLAIN), "RuntimeError")
    return Failure(nature, kind, str(error), traceback)


def raised_here(failure: Failure, where: str) -> BaseException:
    """The exception that stands for `failure` in this process, of the same kind if possible.

    Hosts try again with tiles on torch's own out-of-memory error, so it stays one.
    """
    if failure.nature == "interrupt":
        return host.interruption()
    text = f"{failure.text} (on the worker {where!r})"
    error: BaseException
    if failure.nature == "memory":
        import torch

        # torch before 2.5 has it under torch.cuda alone.
        error = torch.cuda.OutOfMemoryError(text)
    else:
        error = getattr(builtins, failure.kind)(text)
    error.__cause__ = RemoteTraceback(f"\n{failure.traceback}")
    return error


def did_not_start(plan: WorkerPlan, error: Exception) -> str:
    command = shlex.join(plan.command)
    return (
        f"The worker {plan.name!r} could not be started: {error}. It needs an interpreter "
        f"({command}) of this Python's version with torch for {plan.kind} and ComfyUI's "
        "requirements."
    )


def ended_twice(plan: WorkerPlan, asked: str, error: Exception) -> str:
    return (
        f"The worker {plan.name!r} ended twice while it was asked for {asked!r}: {error}. Its "
        "memory or the machine's may have run out, or its device was lost. The next prompt "
        "starts it again; smaller pictures or another device may help."
    )


def reason_of_end(status: int | None, lines: Sequence[str]) -> str:
    """Why a worker's process ended, from its exit status and the last lines that it wrote."""
    if status is None:
        reason = "its process does not answer"
    elif status in (-9, 9):
        reason = "its process died: killed, or out of the machine's memory"
    elif status < 0:
        reason = f"its process crashed with signal {-status}"
    else:
        reason = f"its process ended with status {status}"
    said = " | ".join(line.strip() for line in lines if line.strip())
    return f"{reason}. It wrote last: {said}" if said else reason
