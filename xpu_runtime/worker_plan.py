"""Which workers the user asks for. Pure: read from a setting, nothing is started."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from .settings import read

SETTING = "COMFYUI_IPEX_WORKERS"

KINDS = ("xpu", "cuda", "cpu")

_ROW = re.compile(
    r"(?:(?P<name>[a-z][a-z0-9-]{0,31})=)?(?P<kind>xpu|cuda|cpu):(?P<command>[^,]*[^,\s])"
)


@dataclass(frozen=True)
class WorkerPlan:
    name: str
    """What stands behind the "@" of its devices."""
    kind: str
    """The maker whose devices it has: "xpu", "cuda" or "cpu"."""
    command: tuple[str, ...]
    """The interpreter, and what stands before a program's name."""


def planned(text: str) -> tuple[WorkerPlan, ...]:
    """The workers that the setting's value asks for: "[NAME=]KIND:INTERPRETER", with commas.

    Without a name it is "worker". Raises `ValueError` if a part cannot be read or two have the
    same name.
    """
    plans: list[WorkerPlan] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _ROW.fullmatch(part)
        if found is None:
            raise ValueError(
                f"{SETTING}: {part!r} is no worker. Write KIND:INTERPRETER, for example "
                f"xpu:/opt/xpu/bin/python, where KIND is {', '.join(KINDS)}; before it may stand "
                "a name of small letters and digits: NAME=KIND:INTERPRETER."
            )
        name = found["name"] or "worker"
        if any(plan.name == name for plan in plans):
            raise ValueError(f"{SETTING}: two workers are called {name!r}. Write NAME=KIND:...")
        plans.append(WorkerPlan(name, found["kind"], tuple(shlex.split(found["command"]))))
    return tuple(plans)


def asked_for(environ: Mapping[str, str]) -> tuple[WorkerPlan, ...]:
    """The workers of this process's settings. Raises `ValueError` as `planned` does."""
    return planned(read(SETTING, environ))
