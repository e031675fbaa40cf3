"""Two records beside each other: ratios with intervals, and what of them is noise."""

import statistics
from dataclasses import dataclass
from typing import Any

from . import words
from .intervals import Interval, between_passes
from .record import Record
from .result import CaseResult, Timing

FLOOR = 0.05
"""Smaller differences are noise whatever the intervals say: a change that one does not notice."""

FAMILY_CONFIDENCE = 0.95
"""That none at all of the cases is called faster or slower by chance."""

FASTER, SLOWER, NOISE = "faster", "slower", "noise"
ONE_PASS = "one pass: processes differ by an unknown amount"
_SAME = ("name", "driver", "torch", "extension", "host", "python", "threads", "quick")


@dataclass(frozen=True)
class Change:
    before: CaseResult
    after: CaseResult
    speed: Interval
    """Time before over time after: above 1, the second record is faster."""
    verdict: str
    why: str

    @property
    def name(self) -> str:
        return f"{self.before.suite}: {self.before.case}"


def verdict(speed: Interval, passes: int, floor: float) -> tuple[str, str]:
    """What a ratio of two records means, and why it is noise if it is.

    `passes` is the smaller number of passes of the two.
    """
    if passes < 2:
        return NOISE, ONE_PASS
    if speed.around(1.0):
        return NOISE, "the interval holds 1"
    # Rounded: 1.05 over 1 is not above the floor because of the last binary digit.
    if round(max(speed.median, 1 / speed.median) - 1 - floor, 9) <= 0:
        return NOISE, f"within {floor:.0%}"
    return (FASTER if speed.median > 1 else SLOWER), ""


def speed_of(before: Timing, after: Timing, confidence: float) -> Interval:
    """Time before over time after, in the widest range that samples and passes allow."""
    within = before.interval.over(after.interval)
    between = between_passes(before.passes, after.passes, confidence)
    if between is None:
        return within
    low, high = min(within.low, between.low), max(within.high, between.high)
    return Interval(within.median, low, high, confidence)


def changes(before: Record, after: Record, floor: float = FLOOR) -> list[Change]:
    """Every case that has times in both records."""
    known = {result.key: result for result in after.results}
    pairs = [(first, known[first.key]) for first in before.results if first.key in known]
    timed = [
        (first, second, first.seconds, second.seconds)
        for first, second in pairs
        if first.seconds is not None and second.seconds is not None
    ]
    # Bonferroni: of a hundred cases at 95 % each, five would differ by chance.
    confidence = 1 - (1 - FAMILY_CONFIDENCE) / max(1, len(timed))
    found = []
    for first, second, slow, fast in timed:
        speed = speed_of(slow, fast, confidence)
        passes = min(len(slow.passes), len(fast.passes))
        found.append(Change(first, second, speed, *verdict(speed, passes, floor)))
    return found


def differing_conditions(before: Record, after: Record) -> list[str]:
    """What was not the same when the two records were made."""
    told = []
    for name in _SAME:
        values = [_all(record, name) for record in (before, after)]
        if values[0] != values[1]:
            told.append(f"{name}: {' / '.join(values[0])} -> {' / '.join(values[1])}")
    return told


def _all(record: Record, name: str) -> list[str]:
    return sorted({str(conditions.get(name)) for conditions in record.conditions})


def only_in_one(before: Record, after: Record) -> list[str]:
    """Cases with times in one record alone."""
    timed: list[dict[Any, CaseResult]] = [
        {result.key: result for result in record.results if result.seconds is not None}
        for record in (before, after)
    ]
    return [
        f"only in {which}: {result.suite}: {result.case} {result.dtype}"
        for which, own, other in (("A", timed[0], timed[1]), ("B", timed[1], timed[0]))
        for key, result in own.items()
        if key not in other
    ]


def as_markdown(before: Record, after: Record, floor: float = FLOOR) -> str:
    """The comparison as text: what differed, the noise, a table."""
    found = changes(before, after, floor)
    different = differing_conditions(before, after)
    lines = [f"A: `{before.command}` ({before.started})", f"B: `{after.command}` ({after.started})"]
    lines += [f"- {line}" for line in different] or ["- the same conditions: differences are noise"]
    lines += [f"- {record} is incomplete" for record in _incomplete(before, after)]
    lines += ["", summary(found, floor, bool(different)), ""]
    lines += ["| case | dtype | A | B | speed of B over A | verdict |", "|" + " --- |" * 6]
    lines += [_row(change) for change in found]
    lines += ["", *only_in_one(before, after)]
    return "\n".join(lines).rstrip() + "\n"


def _row(change: Change) -> str:
    times = [
        words.seconds(result.seconds.median)
        for result in (change.before, change.after)
        if result.seconds is not None
    ]
    speed = f"{change.speed.median:.3f} ({change.speed.low:.3f} to {change.speed.high:.3f})"
    said = change.verdict + (f" ({change.why})" if change.why else "")
    cells = [change.name, change.before.dtype, *times, speed, said]
    return f"| {' | '.join(cells)} |"


def _incomplete(before: Record, after: Record) -> list[str]:
    return [name for name, record in (("A", before), ("B", after)) if not record.complete]


def summary(found: list[Change], floor: float, different: bool) -> str:
    """How many cases changed, and how far apart the medians lie."""
    if not found:
        return "No case has times in both files."
    off = sorted(abs(change.speed.median - 1) for change in found)
    counts = {name: sum(c.verdict == name for c in found) for name in (FASTER, SLOWER, NOISE)}
    told = (
        f"{len(found)} cases: {counts[FASTER]} faster, {counts[SLOWER]} slower, "
        f"{counts[NOISE]} noise (floor {floor:.0%}). "
    )
    apart = (
        f"The medians lie {statistics.median(off):.1%} apart in the middle case, "
        f"{off[int(0.95 * (len(off) - 1))]:.1%} in the 95th of a hundred, {off[-1]:.1%} at most"
    )
    return told + apart + ("." if different else ": that is the noise of this machine.")
