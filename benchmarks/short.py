"""A short run in a process that has other things to do: what the node measures."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from . import conditions, emulation, engine, report, table
from .case import Case, Place
from .meter import QUICK, Meter
from .peaks import Peaks
from .record import Record

if TYPE_CHECKING:
    import torch


def quick_cases() -> list[tuple[str, Case]]:
    """The cases of a short run, each with its suite's name."""
    rows = [row for row in table.SUITES if row.short]
    return [(row.name, case) for row in rows for case in table.cases_of(row) if case.quick]


def run(
    cases: Sequence[tuple[str, Case]],
    device: "torch.device",
    dtypes: Sequence[str],
    step: Callable[[int], None],
) -> str:
    """Measure `cases` on `device`; the conditions and a Markdown table.

    `step` is told how many cases are done, and may raise to end the run.
    """
    meter = Meter(device, QUICK)
    record = Record("the node IpexBenchmark", quick=True, passes=1)
    record.add_conditions("short", conditions.of_process(device, None, quick=True))
    record.loads.append(conditions.load(device))
    peaks = Peaks(meter, conditions.device_name(device), quick=True)
    emulated = emulation.is_emulated(device)
    cpu = device.type == "cpu" or emulated
    for done, (suite, case) in enumerate(cases):
        step(done)
        for dtype in table.dtypes_of(case, dtypes, cpu):
            place = Place(device, dtype, quick=True, emulated=emulated)
            record.add(engine.run(suite, case, place, meter, peaks))
    step(len(cases))
    record.complete = True
    return "\n".join([*(line for line in report.about(record) if line), "", report.table(record)])
