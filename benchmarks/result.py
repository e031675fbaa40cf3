"""What a case gave: one row of a results file. `schema.json` describes it as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .case import Case
from .intervals import Interval, hull, interval

MEASURED = "measured"
REFUSED = "refused"
"""Timing was: the device is emulated. Memory, counts and errors are there."""
OUT_OF_MEMORY = "out of memory"
FAILED = "failed"

DIGITS = 6


def shortened(number: float) -> float:
    """`number` with as many digits as mean something."""
    return float(f"{number:.{DIGITS}g}")


@dataclass(frozen=True)
class Timing:
    """Samples of seconds, or of a ratio, and what they say."""

    median: float
    low: float
    high: float
    confidence: float
    narrow: bool
    """Whether the interval is as narrow as it should be; else measuring ended by its limit."""
    samples: list[float]
    passes: list[float]
    """The median of each pass: of each process that it was measured in."""

    @property
    def interval(self) -> Interval:
        return Interval(self.median, self.low, self.high, self.confidence)

    @staticmethod
    def of(samples: Sequence[float]) -> "Timing":
        found = interval(samples)
        return Timing.within(found, samples, [found.median])

    @staticmethod
    def within(found: Interval, samples: Sequence[float], passes: Sequence[float]) -> "Timing":
        """Samples with an interval that is known already."""
        numbers = [shortened(value) for value in (found.median, found.low, found.high)]
        kept = [[shortened(value) for value in values] for values in (samples, passes)]
        return Timing(*numbers, shortened(found.confidence), found.narrow, *kept)


@dataclass(frozen=True)
class Versus:
    """The other side of a comparison, timed in turns."""

    name: str
    seconds: Timing
    ratio: Timing
    """Its seconds over ours: above 1, ours is faster."""
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Rate:
    """How much work a second, and how that compares with what the device can do."""

    value: float
    unit: str
    """flop/s or B/s."""
    peak: float | None = None
    peak_source: str = ""
    share: float | None = None


@dataclass(frozen=True)
class CaseResult:
    """One case in one number format on one device."""

    suite: str
    case: str
    device: str
    dtype: str
    measures: str
    ours: str
    status: str
    why: str = ""
    seconds: Timing | None = None
    against: Versus | None = None
    rates: list[Rate] = field(default_factory=list)
    peak_bytes: int | None = None
    error: float | None = None
    error_unit: str = "relative"
    counts: dict[str, Any] = field(default_factory=dict)
    sweep: str = ""
    batch: int = 0
    passes: int = 1
    took_s: float = 0.0
    """How long measuring took, all passes together."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same measurement in another file."""
        return self.suite, self.case, self.device, self.dtype


def ended(suite: str, case: Case, device: str, dtype: str, status: str, why: str) -> CaseResult:
    return CaseResult(
        suite, case.name, device, dtype, case.measures, "", status, why, sweep=case.sweep,
        batch=case.batch, error_unit=case.error_unit,
    )  # fmt: skip


def as_json(result: CaseResult) -> dict[str, Any]:
    """The result as it stands in a file."""
    return asdict(result)


def _timing(data: Mapping[str, Any] | None) -> Timing | None:
    return None if data is None else Timing(**data)


def from_json(data: Mapping[str, Any]) -> CaseResult:
    """The result that stands in a file. Raises `TypeError` if that has other fields."""
    parts = dict(data)
    parts["seconds"] = _timing(data["seconds"])
    parts["rates"] = [Rate(**rate) for rate in data["rates"]]
    if data["against"] is not None:
        versus = dict(data["against"])
        versus["seconds"], versus["ratio"] = Timing(**versus["seconds"]), Timing(**versus["ratio"])
        parts["against"] = Versus(**versus)
    return CaseResult(**parts)


def _both(first: Timing, second: Timing) -> Timing:
    samples = [*first.samples, *second.samples]
    found = hull([first.interval, second.interval], samples)
    return Timing.within(found, samples, [*first.passes, *second.passes])


def merged(first: CaseResult, second: CaseResult) -> CaseResult:
    """Two passes of one case as one result.

    Rates and peaks are the first pass's, scaled to the common median. Of a pass without times the
    other one keeps why.
    """
    if first.seconds is None or second.seconds is None:
        kept, other = (second, first) if first.seconds is None else (first, second)
        why = f"in another pass: {other.status}: {other.why}"
        return kept if kept.status == other.status else replace(kept, why=why)
    seconds = _both(first.seconds, second.seconds)
    factor = first.seconds.median / seconds.median
    against = first.against
    if against is not None and second.against is not None:
        against = Versus(
            against.name,
            _both(against.seconds, second.against.seconds),
            _both(against.ratio, second.against.ratio),
            against.peak_bytes,
        )
    rates = [
        Rate(
            shortened(rate.value * factor),
            rate.unit,
            rate.peak,
            rate.peak_source,
            None if rate.share is None else shortened(rate.share * factor),
        )
        for rate in first.rates
    ]
    fields = {**vars(first), "seconds": seconds, "against": against, "rates": rates}
    fields["took_s"] = shortened(first.took_s + second.took_s)
    return CaseResult(**{**fields, "passes": first.passes + second.passes})
