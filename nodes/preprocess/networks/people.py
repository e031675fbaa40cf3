"""OpenPose's people: peaks of its heat maps, joined where its affinity fields say so.

After controlnet_aux's open_pose/body.py, which is Hzzone's pytorch-openpose. Small: a picture has
some dozens of peaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

PARTS = 18

# Which parts a limb joins, from 1, and the channels of its affinity field, x and y. The last two
# limbs, from shoulder to ear, only confirm.
_LIMBS = (
    *((2, 3, 12, 13), (2, 6, 20, 21), (3, 4, 14, 15), (4, 5, 16, 17), (6, 7, 22, 23)),
    *((7, 8, 24, 25), (2, 9, 0, 1), (9, 10, 2, 3), (10, 11, 4, 5), (2, 12, 6, 7)),
    *((12, 13, 8, 9), (13, 14, 10, 11), (2, 1, 28, 29), (1, 15, 30, 31), (15, 17, 34, 35)),
    *((1, 16, 32, 33), (16, 18, 36, 37), (3, 17, 18, 19), (6, 18, 26, 27)),
)
_CONFIRMING = 17

_SAMPLES = 10
_LEAST_AFFINITY = 0.05
_LEAST_AGREEING = 0.8
_FEWEST_PARTS = 4
_LEAST_MEAN_SCORE = 0.4

_AT_ONCE = 1 << 14
"""Pixels that are read together: each takes a row of a map, and noise has millions of pairs."""


@dataclass(frozen=True)
class Field:
    """Feature maps [C, h, w] that are read at pixels of the whole picture."""

    maps: np.ndarray
    rows: np.ndarray
    """[H, h]: how the picture's rows come from the maps'."""
    columns: np.ndarray

    def at(self, channel: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The values of one map at the pixels `x`, `y`."""
        across, down = x.reshape(-1), y.reshape(-1)
        values = np.empty(len(across))
        for first in range(0, len(values), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            rows = self.rows[down[part]] @ self.maps[channel]
            values[part] = np.einsum("pw,pw->p", rows, self.columns[across[part]])
        return values.reshape(x.shape)


@dataclass(frozen=True)
class JointPeaks:
    """The peaks of one picture, ordered by part."""

    part: np.ndarray
    x: np.ndarray
    y: np.ndarray
    score: np.ndarray

    def of(self, part: int) -> np.ndarray:
        """The numbers of the peaks of a part, from 1."""
        return np.flatnonzero(self.part == part - 1)


@dataclass(eq=False)
class Group:
    """Peaks that belong to one person."""

    peaks: list[int] = field(default_factory=lambda: [-1] * PARTS)
    score: float = 0.0
    count: int = 0


def group(peaks: JointPeaks, affinities: Field) -> list[list[int]]:
    """For each person the peaks of its 18 parts, -1 where there is none."""
    groups: list[Group] = []
    for number, (one, other, *channels) in enumerate(_LIMBS):
        pairs = _connections(peaks.of(one), peaks.of(other), peaks, affinities, channels)
        for start, end, score in pairs:
            _add(groups, (one - 1, start), (other - 1, end), score, peaks, number < _CONFIRMING)
    return [
        each.peaks
        for each in groups
        if each.count >= _FEWEST_PARTS and each.score / each.count >= _LEAST_MEAN_SCORE
    ]


def _connections(
    starts: np.ndarray,
    ends: np.ndarray,
    peaks: JointPeaks,
    affinities: Field,
    channels: Sequence[int],
) -> list[tuple[int, int, float]]:
    """Pairs of peaks that a limb joins, the surest first, each peak in one pair at most."""
    if not len(starts) or not len(ends):
        return []
    x = np.linspace(peaks.x[starts][:, None], peaks.x[ends][None], _SAMPLES, axis=-1)
    y = np.linspace(peaks.y[starts][:, None], peaks.y[ends][None], _SAMPLES, axis=-1)
    way = np.stack((x[..., -1] - x[..., 0], y[..., -1] - y[..., 0]))
    length = np.maximum(np.sqrt((way**2).sum(0)), 0.001)
    direction = way / length
    pixels = np.rint(x).astype(int), np.rint(y).astype(int)
    along = sum(
        affinities.at(channel, *pixels) * direction[axis][..., None]
        for axis, channel in enumerate(channels)
    )
    height = affinities.rows.shape[0]
    score = along.mean(-1) + np.minimum(0.5 * height / length - 1, 0)
    agreeing = (along > _LEAST_AFFINITY).sum(-1) > _LEAST_AGREEING * _SAMPLES
    found = [(i, j) for i, j in np.argwhere(agreeing & (score > 0))]
    found.sort(key=lambda pair: score[pair], reverse=True)
    pairs: list[tuple[int, int, float]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for i, j in found:
        if i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            pairs.append((int(starts[i]), int(ends[j]), float(score[i, j])))
    return pairs


def _add(
    groups: list[Group],
    start: tuple[int, int],
    end: tuple[int, int],
    score: float,
    peaks: JointPeaks,
    may_begin: bool,
) -> None:
    """Put a limb, (part, peak) to (part, peak), into the groups that have one of its ends."""
    known = [g for g in groups if g.peaks[start[0]] == start[1] or g.peaks[end[0]] == end[1]][:2]
    if not known:
        if may_begin:
            new = Group(score=score + float(peaks.score[[start[1], end[1]]].sum()), count=2)
            new.peaks[start[0]], new.peaks[end[0]] = start[1], end[1]
            groups.append(new)
        return
    first = known[0]
    if len(known) == 2:
        second = known[1]
        if not any(a >= 0 and b >= 0 for a, b in zip(first.peaks, second.peaks, strict=True)):
            first.peaks = [max(a, b) for a, b in zip(first.peaks, second.peaks, strict=True)]
            first.score += second.score + score
            first.count += second.count
            groups.remove(second)
            return
    elif first.peaks[end[0]] == end[1]:
        return
    first.peaks[end[0]] = end[1]
    first.count += 1
    first.score += float(peaks.score[end[1]]) + score
