"""Medians with intervals, and what they decide. Pure functions over seconds or ratios."""

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95

TARGET = 0.05
"""An interval is narrow enough when its width is at most this share of the median."""

STEADY = 3
"""So many samples in a row must agree before the warm-up is over."""


@dataclass(frozen=True)
class Interval:
    """A median and the range in which the true one lies."""

    median: float
    low: float
    high: float
    confidence: float
    """How sure that is; below CONFIDENCE where there are fewer than six samples."""

    @property
    def width(self) -> float:
        """The range as a share of the median."""
        return (self.high - self.low) / self.median if self.median else math.inf

    @property
    def narrow(self) -> bool:
        """Whether it is as sure and as narrow as it should be."""
        return self.confidence >= CONFIDENCE and self.width <= TARGET

    def over(self, other: "Interval") -> "Interval":
        """This median over another one, in the widest range that both allow."""
        return Interval(
            self.median / other.median,
            self.low / other.high,
            self.high / other.low,
            self.confidence * other.confidence,
        )

    def around(self, value: float) -> bool:
        return self.low <= value <= self.high


def interval(samples: Sequence[float]) -> Interval:
    """The median of `samples` and its interval, whatever their distribution.

    The number of samples below the true median is binomial, so the k-th from either end bound
    it with a confidence that depends on k alone: the largest k that still gives CONFIDENCE is
    taken. Below six samples the smallest and the largest are, and `confidence` says how little
    that proves. Raises `ValueError` without samples.
    """
    if not samples:
        raise ValueError("An interval needs at least one sample.")
    ordered = sorted(samples)
    rank = 1
    while rank < len(ordered) // 2 and _confidence(len(ordered), rank + 1) >= CONFIDENCE:
        rank += 1
    low, high = ordered[rank - 1], ordered[-rank]
    return Interval(statistics.median(ordered), low, high, _confidence(len(ordered), rank))


def _confidence(count: int, rank: int) -> float:
    below = sum(math.comb(count, k) for k in range(rank))
    return max(0.0, 1 - 2 * below / 2**count)


def steady(samples: Sequence[float]) -> bool:
    """Whether the last samples agree within TARGET: the warm-up is over."""
    last = samples[-STEADY:]
    return len(last) == STEADY and max(last) <= min(last) * (1 + TARGET)


def hull(intervals: Sequence[Interval], samples: Sequence[float]) -> Interval:
    """What several passes say together: the median of all samples, and every pass's range.

    A pass is a process of its own; what differs between passes (clocks, where memory lies) is
    no less uncertain than what differs within one. Raises `ValueError` without samples.
    """
    if not samples:
        raise ValueError("An interval needs at least one sample.")
    return Interval(
        statistics.median(samples),
        min(one.low for one in intervals),
        max(one.high for one in intervals),
        min(one.confidence for one in intervals),
    )


@functools.cache
def student(confidence: float, freedom: int) -> float:
    """The quantile of Student's t that holds `confidence` between it and its negative.

    Found by halving, with the density integrated by Simpson's rule: torch brings no scipy.
    """
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    scale /= math.sqrt(freedom * math.pi)

    def inside(limit: float) -> float:
        # t = sqrt(freedom) tan(angle) makes the density a power of the cosine.
        angle = math.atan(limit / math.sqrt(freedom))
        steps = 200
        heights = [math.cos(angle * k / steps) ** (freedom - 1) for k in range(steps + 1)]
        total = heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])
        return 2 * scale * math.sqrt(freedom) * total * angle / steps / 3

    low, high = 0.0, 1e7
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < confidence else (low, middle)
    return high


def between_passes(
    before: Sequence[float], after: Sequence[float], confidence: float
) -> Interval | None:
    """Time before over time after, from the medians of passes; None if that proves nothing.

    Passes are processes, and one differs from the next by more than the samples within it do.
    So each pass counts as one observation: Student's t of the logarithms, their variance pooled.
    """
    freedom = len(before) + len(after) - 2
    if min(len(before), len(after)) < 2:
        return None
    logs = [[math.log(value) for value in values] for values in (before, after)]
    means = [statistics.fmean(values) for values in logs]
    squares = sum(
        (value - mean) ** 2 for values, mean in zip(logs, means, strict=True) for value in values
    )
    error = math.sqrt(squares / freedom * (1 / len(before) + 1 / len(after)))
    middle, reach = means[0] - means[1], student(confidence, freedom) * error
    reach = min(reach, 700.0)  # what exp can still hold
    return Interval(
        math.exp(middle), math.exp(middle - reach), math.exp(middle + reach), confidence
    )
