"""Runs one suite on one device in a process of its own, and tells each result at once.

A process of its own: one that dies (a lost card, no memory left) takes nothing else along, and
ComfyUI, which knows one device a process, can be measured on several.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from . import conditions, engine, hosting, table
from .case import Case, CaseSettings
from .meter import CAREFUL, QUICK, Meter, is_emulated
from .peaks import Peaks
from .result import REFUSED, CaseResult, as_json

SWEEP_STEP_S = 5.0
"""A sweep ends with the first batch that takes longer, a tenth of it with --quick."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class BenchRequest:
    suite: str
    device: str
    dtypes: tuple[str, ...]
    cases: tuple[str, ...]
    quick: bool
    tree: str | None
    after: tuple[str, str] | None = None
    """The case and number format that the bench process before this one has died in."""

    def text(self) -> str:
        """As it stands on a command line."""
        return json.dumps(asdict(self))

    @staticmethod
    def of(text: str) -> "BenchRequest":
        data = json.loads(text)
        for name in ("dtypes", "cases", "after"):
            data[name] = None if data[name] is None else tuple(data[name])
        return BenchRequest(**data)


def main(text: str) -> int:
    """Answer the request of a command line; results go to standard output, a JSON object a line."""
    ending: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        # Ending it like this lets what it has started (servers) end with it.
        ending.append(128 + number)
        sys.exit(ending[0])

    signal.signal(signal.SIGTERM, end)
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what ComfyUI and others print must not stand between results
    logging.basicConfig(level=logging.WARNING)

    def tell(message: Mapping[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()
        if ending:
            sys.exit(ending[0])  # what the first one was raised in has swallowed it

    measure(BenchRequest.of(text), tell)
    return 0


def measure(request: BenchRequest, tell: Tell) -> None:
    """Run the request's cases in order. Raises what importing torch and the host raises."""
    import torch

    device = torch.device(request.device)
    row = table.suite(request.suite)
    tree = None if request.tree is None else Path(request.tree)
    if row.host:
        if tree is None:
            raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
        hosting.start_host(tree, device)
    meter = Meter(device, QUICK if request.quick else CAREFUL)
    host = None if tree is None else hosting.version(tree)
    tell({"conditions": conditions.of_process(device, host, request.quick)})
    tell({"load": conditions.load(device)})
    emulated = is_emulated(device)
    cpu = device.type == "cpu" or emulated
    cases = table.chosen(table.cases_of(row), request.quick, request.cases, cpu)
    peaks = Peaks(meter, conditions.device_name(device), request.quick)
    todo = [(case, dtype) for case in cases for dtype in table.dtypes_of(case, request.dtypes, cpu)]
    over: set[tuple[str, str]] = set()
    for case, dtype in remaining(todo, request.after, over):
        settings = CaseSettings(device, dtype, request.quick, tree, emulated)
        if (case.sweep, dtype) in over:
            continue
        tell({"begin": [request.suite, case.name, request.device, dtype]})
        pace = meter.pace.hurried() if case.batch > 1 else meter.pace
        result = engine.measure_case(request.suite, case, settings, Meter(device, pace), peaks)
        tell({"result": as_json(result)})
        if case.sweep and sweep_is_over(result, request.quick):
            over.add((case.sweep, dtype))
    tell({"load": conditions.load(device)})
    tell({"end": True})


def remaining(
    todo: Sequence[tuple[Case, str]], after: tuple[str, str] | None, over: set[tuple[str, str]]
) -> Sequence[tuple[Case, str]]:
    """What comes after the case that a bench process died in; a sweep that it is of is over."""
    names = [(case.name, dtype) for case, dtype in todo]
    if after is None or after not in names:
        return todo
    place = names.index(after)
    case, dtype = todo[place]
    if case.sweep:
        over.add((case.sweep, dtype))
    return todo[place + 1 :]


def sweep_is_over(result: CaseResult, quick: bool) -> bool:
    """Whether no larger batch is to be tried: memory has ended, or a call took too long."""
    if result.seconds is None:
        return result.status != REFUSED
    limit = SWEEP_STEP_S / 10 if quick else SWEEP_STEP_S
    return result.seconds.median > limit
