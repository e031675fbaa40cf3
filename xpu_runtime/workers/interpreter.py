"""Whether an interpreter can be a worker's, found out in a moment and before it is started."""

import json
import platform
import shlex
import subprocess

from ..worker_plan import WorkerPlan
from .errors import WorkerError

_ASKED = """
import importlib.util, json, platform
torch = importlib.util.find_spec("torch") is not None
print(json.dumps({"python": platform.python_version(), "torch": torch}))
"""

_SECONDS = 60.0


def check(plan: WorkerPlan) -> None:
    """Raises `WorkerError`, with what is missing, if `plan`'s interpreter cannot be a worker's.

    It must have this Python's version, because what crosses is read by both.
    """
    command = shlex.join(plan.command)
    try:
        done = subprocess.run(
            [*plan.command, "-c", _ASKED],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise WorkerError(
            f"The worker {plan.name!r} cannot be started: {command!r} is no Python that answers "
            f"({type(error).__name__}: {error}). Correct its path in COMFYUI_IPEX_WORKERS."
        ) from error
    reason = unfit(found, platform.python_version())
    if reason:
        raise WorkerError(f"The worker {plan.name!r} cannot be started: {command} {reason}")


def unfit(found: dict[str, object], python: str) -> str:
    """Why an interpreter that says `found` of itself cannot be a worker's; "" if it can."""
    theirs = str(found["python"])
    if theirs.split(".")[:2] != python.split(".")[:2]:
        return (
            f"is Python {theirs}, and ComfyUI runs on {python}. Make an environment with the same."
        )
    if not found["torch"]:
        return "does not have torch. Install torch for its cards there, and ComfyUI's requirements."
    return ""
