"""What this extension, or `patches/`, costs a host where no Intel GPU is in play.

Servers with and without answer the same prompts in turns; starts are timed from a server's first
instruction until it answers. Ratios are those without over with: 1.00 says that it costs nothing.
"""

import functools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ...launcher.folders import REPOSITORY, child_environment
from ..case import NO_DTYPE, Case, CaseSettings, Side, Trial
from .sd_models import FAMILIES
from .startup_servers import (
    BARE,
    EXTENDED,
    PATCHED,
    START,
    Kind,
    answer_seconds,
    forget,
    processor_facts,
    start_seconds,
)

LOADING = REPOSITORY / "tests" / "host" / "probes" / "load_extension.py"
QUICK_FAMILY, FAMILY = "tiny", "SD 1.5"


def cases() -> list[Case]:
    made = [
        Case(
            "loading this extension",
            "its prestart and its loading in a process of the host; the budget is 0.1 s",
            _loading,
            NO_DTYPE,
            quick=True,
        )
    ]
    for kind, words in ((EXTENDED, "with this extension"), (PATCHED, "patched")):
        made.append(
            Case(
                f"server start {words}",
                "until a server answers, against a server without",
                functools.partial(_start, kind),
                NO_DTYPE,
            )
        )
        made += [
            Case(
                f"{family} prompt {words}",
                "a txt2img prompt with a new seed, against a server without",
                functools.partial(_prompt, kind, family),
                NO_DTYPE,
                gpu_only=family == FAMILY,
            )
            for family in (QUICK_FAMILY, FAMILY)
        ]
    return made


def _loading(settings: CaseSettings) -> Trial:
    if settings.tree is None or not LOADING.exists():
        raise ValueError("This case needs ComfyUI (--tree) and a clone with its folder tests/.")
    last: dict[str, Any] = {}
    processor: list[float] = []

    def once() -> float:
        done = subprocess.run(
            [sys.executable, str(LOADING), str(REPOSITORY)],
            cwd=settings.tree,
            env={**child_environment(), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        parts = (answer["prestart"], answer)
        last["MB"] = round(sum(part["bytes"] for part in parts) / 1e6, 2)
        last["prestart s"] = round(answer["prestart"]["seconds"], 4)
        processor.append(sum(part["processor seconds"] for part in parts))
        last["processor s"] = round(statistics.median(processor), 4)
        last["processor s at best"] = round(min(processor), 4)
        return float(sum(part["seconds"] for part in parts))

    return Trial(Side("prestart and loading", once, self_timed=True), facts=lambda: last)


def _sides(kind: Kind, seconds: Callable[[Kind], float]) -> tuple[Side, Side]:
    return (
        Side(kind.name, lambda: seconds(kind), self_timed=True),
        Side(BARE.name, lambda: seconds(BARE), self_timed=True),
    )


def _start(kind: Kind, settings: CaseSettings) -> Trial:
    forget(START)
    return Trial(
        *_sides(kind, lambda which: start_seconds(which, settings)),
        facts=lambda: processor_facts(START, kind),
    )


def _prompt(kind: Kind, family: str, settings: CaseSettings) -> Trial:
    if settings.tree is None:
        raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
    row = next(row for row in FAMILIES if row.name == family)
    forget(row.name)
    return Trial(
        *_sides(kind, lambda which: answer_seconds(which, settings, row)),
        facts=lambda: {"steps": row.steps, "side": row.side, **processor_facts(row.name, kind)},
    )
