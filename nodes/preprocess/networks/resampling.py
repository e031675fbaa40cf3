"""OpenCV's resizing and blurring as matrices: one for the rows, one for the columns.

What is linear and separable is a matrix for each axis, and several steps are one product: a
feature map goes to its final size at once, on any device, and single pixels of the result can be
had without the others. Matrices are fp64 on the CPU, and are rounded when they go to a device.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ....inference.transfer import check_memory

_CACHED = 32
"""Matrices that are kept: those of a size of picture are about ten. Each may have many MiB."""


def resize(given: tuple[int, int], wanted: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The matrices of controlnet_aux's `smart_resize`: Lanczos to enlarge, areas to reduce."""
    matrix = area if sum(wanted) < sum(given) else lanczos
    return matrix(given[0], wanted[0]), matrix(given[1], wanted[1])


@lru_cache(_CACHED)
def lanczos(given: int, wanted: int) -> Tensor:
    """[wanted, given]: cv2.INTER_LANCZOS4, eight pixels each, the outermost ones repeated."""
    places = (torch.arange(wanted, dtype=torch.float64) + 0.5) * given / wanted - 0.5
    first = places.floor() - 3
    taps = first[:, None] + torch.arange(8)
    distance = places[:, None] - taps
    weights = torch.sinc(distance) * torch.sinc(distance / 4)
    return _gathered(taps, weights, given)


def cubic(given: int, wanted: int) -> Tensor:
    """[wanted, given]: cv2.INTER_CUBIC, four pixels each, the outermost ones repeated.

    Not kept: who resizes to and fro keeps the product.
    """
    places = (torch.arange(wanted, dtype=torch.float64) + 0.5) * given / wanted - 0.5
    taps = (places.floor() - 1)[:, None] + torch.arange(4)
    d = (places[:, None] - taps).abs()
    near = (1.25 * d - 2.25) * d * d + 1
    far = ((-0.75 * d + 3.75) * d - 6) * d + 3
    return _gathered(taps, torch.where(d <= 1, near, far), given)


@lru_cache(_CACHED)
def area(given: int, wanted: int) -> Tensor:
    """[wanted, given]: cv2.INTER_AREA, the mean of what each new pixel covers."""
    _check(wanted, given, matrices=4)
    edges = torch.arange(wanted + 1, dtype=torch.float64) * given / wanted
    pixel = torch.arange(given, dtype=torch.float64)
    ends = torch.minimum(edges[1:, None], pixel + 1)
    covered = (ends - torch.maximum(edges[:-1, None], pixel)).clamp(min=0)
    return covered / covered.sum(1, keepdim=True)


@dataclass(frozen=True)
class Blur:
    """A Gaussian of `2 * radius + 1` pixels along an axis, mirrored at the ends."""

    sigma: float
    radius: int
    edge_twice: bool
    """The outermost pixel is mirrored too, as SciPy does it and OpenCV does not."""

    def after(self, matrix: Tensor) -> Tensor:
        """What blurs the result of `matrix` [length, n], as a matrix of that size."""
        taps, weights = self._taps(len(matrix))
        total = torch.zeros_like(matrix)
        for tap, weight in zip(taps, weights, strict=True):
            total += matrix[tap] * weight
        return total

    def before(self, matrix: Tensor) -> Tensor:
        """What blurs first and is then `matrix` [n, length], as a matrix of that size."""
        taps, weights = self._taps(matrix.shape[1])
        total = torch.zeros_like(matrix)
        for tap, weight in zip(taps, weights, strict=True):
            total.index_add_(1, tap, matrix * weight)
        return total

    def _taps(self, length: int) -> tuple[Tensor, Tensor]:
        """The pixels that each pixel is made of [2 * radius + 1, length], and their weights."""
        offsets = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        weights = torch.exp(-(offsets**2) / (2 * self.sigma**2))
        period = 2 * length if self.edge_twice else max(1, 2 * length - 2)
        taps = (offsets.long()[:, None] + torch.arange(length)).remainder(period)
        taps = torch.where(taps < length, taps, period - taps - int(self.edge_twice))
        return taps.clamp(0, length - 1), weights / weights.sum()


def _gathered(taps: Tensor, weights: Tensor, given: int) -> Tensor:
    """Rows that add up to 1, with `weights` at the pixels `taps`, clamped to those there are."""
    _check(taps.shape[0], given)
    matrix = torch.zeros(taps.shape[0], given, dtype=torch.float64)
    matrix.scatter_add_(1, taps.clamp(0, given - 1).long(), weights / weights.sum(1, keepdim=True))
    return matrix


def _check(rows: int, columns: int, matrices: int = 1) -> None:
    """Raise `TooLargeError` where matrices do not fit: a thin picture has a long side."""
    check_memory(
        8 * rows * columns * matrices, f"Pictures with a side of {max(rows, columns)} pixels"
    )


def enlarging(
    mapped: tuple[int, ...], small: tuple[int, int], size: tuple[int, int], stride: int
) -> tuple[Tensor, Tensor]:
    """From a network's map to a picture of `size`: `stride` times as large, then without what
    was padded to the `small` picture that the network saw, then like `resize`."""
    stretched = [lanczos(n, n * stride)[:m] for n, m in zip(mapped, small, strict=True)]
    last = resize(small, size)
    return last[0] @ stretched[0], last[1] @ stretched[1]


def apply(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`maps` [..., H, W], resampled: `rows` [height, H] and `columns` [width, W]."""
    # In two steps: fp64 must not get onto a device.
    rows, columns = (matrix.to(maps.dtype).to(maps.device) for matrix in (rows, columns))
    return rows @ maps @ columns.T
