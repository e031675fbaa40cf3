"""OpenCV's resizing and blurring as matrices: one for the rows, one for the columns.

What is linear and separable is a matrix for each axis, and several steps are one product: a
feature map goes to its final size at once, on any device, and single pixels of the result can be
had without the others. Matrices are fp64 on the CPU, and are rounded when they go to a device.
"""

from functools import lru_cache

import torch
from torch import Tensor

_CACHED = 256


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
    edges = torch.arange(wanted + 1, dtype=torch.float64) * given / wanted
    pixel = torch.arange(given, dtype=torch.float64)
    ends = torch.minimum(edges[1:, None], pixel + 1)
    covered = (ends - torch.maximum(edges[:-1, None], pixel)).clamp(min=0)
    return covered / covered.sum(1, keepdim=True)


@lru_cache(_CACHED)
def blur(length: int, sigma: float, radius: int, edge_twice: bool) -> Tensor:
    """[length, length]: a Gaussian of `2 * radius + 1` pixels, mirrored at the ends.

    `edge_twice`: the outermost pixel is mirrored too, as SciPy does it and OpenCV does not.
    """
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2)).expand(length, -1)
    taps = torch.arange(length, dtype=torch.float64)[:, None] + offsets
    period = 2 * length if edge_twice else max(1, 2 * length - 2)
    taps = taps.remainder(period)
    taps = torch.where(taps < length, taps, period - taps - int(edge_twice))
    return _gathered(taps, weights, length)


def _gathered(taps: Tensor, weights: Tensor, given: int) -> Tensor:
    """Rows that add up to 1, with `weights` at the pixels `taps`, clamped to those there are."""
    matrix = torch.zeros(taps.shape[0], given, dtype=torch.float64)
    matrix.scatter_add_(1, taps.clamp(0, given - 1).long(), weights / weights.sum(1, keepdim=True))
    return matrix


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
