"""One case on one device: correctness, memory, time, work; and all quick cases for the node."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..xpu_runtime.errors import is_out_of_memory
from ..xpu_runtime.readable import ERRORS, Unreadable, readable
from ..xpu_runtime.report import without_paths
from . import conditions, report, table
from .case import COUNTED, Case, CaseSettings, Trial
from .meter import QUICK, Meter, count_on_emulated_card, is_emulated
from .peaks import BYTES, FLOPS, Peaks
from .record import Record
from .result import (
    FAILED,
    MEASURED,
    OUT_OF_MEMORY,
    REFUSED,
    CaseResult,
    Rate,
    Timing,
    Versus,
    ended,
    shortened,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_Part = TypeVar("_Part")

WHY_REFUSED = "The XPU is emulated on the CPU: its times say nothing about any card."


def measure_case(
    suite: str, case: Case, settings: CaseSettings, meter: Meter, peaks: Peaks
) -> CaseResult:
    """Measure a case; what goes wrong in it becomes the result's status and reason."""
    import torch

    where = (suite, case, str(settings.device), settings.dtype)
    began = time.perf_counter()
    try:
        with torch.inference_mode():
            found = _measured(suite, case, settings, meter, peaks)
        return replace(found, took_s=shortened(time.perf_counter() - began))
    except ERRORS as error:
        told = without_paths((str(error).splitlines() or [""])[0])
        memory = is_out_of_memory(error)
        why = told if memory else f"{type(error).__name__}: {told}"
        return ended(*where, OUT_OF_MEMORY if memory else FAILED, why)
    finally:
        gc.collect()
        if meter.backend is not None:
            meter.backend.empty_cache()


def _measured(
    suite: str, case: Case, settings: CaseSettings, meter: Meter, peaks: Peaks
) -> CaseResult:
    trial = case.make(settings)
    peak, outcome = (None, None)
    if not trial.ours.self_timed:
        trial.ours.call()  # what a first call prepares is not the case's memory
        peak, outcome = meter.peak(trial.ours.call)
    lacks: list[str] = []
    error = read_or_note(lambda: error_of(trial, outcome), "error", lacks)
    outcome = None
    flops = counted_flops(trial)
    counts: dict[str, Any] = {}
    if settings.emulated:
        counts |= count_on_emulated_card(settings.device, trial.ours.call)
    seconds, against = (None, None) if settings.emulated else timed(trial, meter)
    rates = []
    if seconds is not None:
        rates = rates_of(trial, flops, seconds.median, trial.computes_in or settings.dtype, peaks)
    if trial.facts is not None:
        counts |= read_or_note(trial.facts, "figures", lacks) or {}
    if flops:
        counts["flop"] = flops
    return CaseResult(
        suite=suite,
        case=case.name,
        device=str(settings.device),
        dtype=settings.dtype,
        measures=case.measures,
        ours=trial.ours.name,
        status=REFUSED if settings.emulated else MEASURED,
        why="; ".join([*([WHY_REFUSED] if settings.emulated else []), *lacks]),
        seconds=seconds,
        against=against,
        rates=rates,
        peak_bytes=peak,
        error=error,
        error_unit=case.error_unit,
        counts=counts,
        sweep=case.sweep,
        batch=case.batch,
    )


def read_or_note(read: Callable[[], _Part], what: str, lacks: list[str]) -> _Part | None:
    """What `read()` answers; None where it fails: `lacks` is told why, and the rest counts."""
    found = readable(read)
    if isinstance(found, Unreadable):
        lacks.append(f"no {what}: {without_paths(found.why)}")
        return None
    return found


def timed(trial: Trial, meter: Meter) -> tuple[Timing, Versus | None]:
    """The seconds of a trial, and of its other side in turns with it."""
    if trial.against is None:
        return Timing.of(meter.samples(trial.ours)), None
    peak = None
    if not trial.against.self_timed:
        trial.against.call()
        peak, _ = meter.peak(trial.against.call)
    pairs = meter.pairs(trial.ours, trial.against)
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    ratio = Timing.of([after / before for before, after in pairs])
    return Timing.of(ours), Versus(trial.against.name, Timing.of(theirs), ratio, peak)


def error_of(trial: Trial, outcome: object) -> float | None:
    """How far the outcome is from the same in higher precision; None where that is not known."""
    if trial.expected is None:
        return None
    got = outcome if trial.outcome is None else trial.outcome()
    differ: Callable[[Any, Any], float] = trial.differ or relative_error
    found = differ(got, trial.expected())
    return shortened(found) if math.isfinite(found) else None


def relative_error(got: "Tensor", expected: "Tensor") -> float:
    """The norm of the difference over the norm of what was expected, computed in fp64 on the CPU.

    Not on the device: Intel's Arc A series has no fp64.
    """
    wanted = expected.detach().cpu().double()
    return float((got.detach().cpu().double() - wanted).norm() / wanted.norm())


def counted_flops(trial: Trial) -> float | None:
    """Floating point operations of one call: those stated, or those that torch's counter finds.

    Under the counter some back ends take another way through attention, and may lack it: then
    there is no count.
    """
    if trial.flops != COUNTED:
        return None if trial.flops is None else float(trial.flops)
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)

    def count() -> int:
        with counter:
            trial.ours.call()
        return int(counter.get_total_flops())

    found = readable(count)
    return None if isinstance(found, Unreadable) else float(found) or None


def rates_of(
    trial: Trial, flops: float | None, seconds: float, dtype: str, peaks: Peaks
) -> list[Rate]:
    """Work a second for each kind of work that is known, and its share of the device's limit."""
    rates = []
    for unit, amount in ((FLOPS, flops), (BYTES, trial.moved)):
        if not amount:
            continue
        value, peak = amount / seconds, peaks.of(unit, dtype)
        share = shortened(value / peak.value)
        rates.append(Rate(shortened(value), unit, shortened(peak.value), peak.source, share))
    if trial.crossed is not None:
        rates.append(Rate(shortened(trial.crossed / seconds), BYTES))
    return rates


def quick_cases() -> list[tuple[str, Case]]:
    """The cases of a short run, each with its suite's name."""
    rows = [row for row in table.SUITES if row.short]
    return [(row.name, case) for row in rows for case in table.cases_of(row) if case.quick]


def measure_quick_cases(
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
    emulated = is_emulated(device)
    cpu = device.type == "cpu" or emulated
    for done, (suite, case) in enumerate(cases):
        step(done)
        for dtype in table.dtypes_of(case, dtypes, cpu):
            settings = CaseSettings(device, dtype, quick=True, emulated=emulated)
            record.add(measure_case(suite, case, settings, meter, peaks))
    step(len(cases))
    record.complete = True
    return "\n".join([*(line for line in report.about(record) if line), "", report.table(record)])
