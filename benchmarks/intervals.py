"""Medians with intervals, and what they decide. Pure functions over seconds or ratios."""

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
        """Whether `value` lies in the range."""
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
