"""Where boosted LeReS looks closer: at which size at the whole picture, and at which parts again.

After Miangoleh et al., "Boosting Monocular Depth Estimation Models to High-Resolution via
Content-Adaptive Multi-Resolution Merging" (CVPR 2021), with the settings of controlnet_aux's
leres/depthmap.py. What is decided are a few numbers, each from the one before, so this is done
with OpenCV on the CPU, from one gray picture.
"""

from dataclasses import dataclass

import numpy as np

FIELD = 448
"""How far the network sees, in pixels."""

_CELL = 32
"""The search for a size is done in cells of so many pixels."""
_MOST = 1600
_MOST_LARGER = 3
_UNSEEN = 0.2
"""The share of a picture that may be farther from any edge than the network sees."""
_STRONG = 0.4
_LEAST_FACTOR = 0.2

Gray = np.ndarray
"""fp32 [H, W] of 0 to 255."""

Square = tuple[int, int, int]
"""Left, top and side in pixels."""


@dataclass(frozen=True)
class PatchPlan:
    """What is looked at."""

    side: int
    """Of the square that the whole picture is brought to, when it is looked at closely."""
    enlarged: tuple[int, int]
    """Height and width of the picture in which `squares` were chosen."""
    size: tuple[int, int]
    """Of the picture in which they are: the given one's, but for rounding."""
    squares: tuple[Square, ...] = ()
    """The largest first: smaller ones are laid over them. They may reach out of the picture."""


def plan(gray: Gray) -> PatchPlan:
    """Where to look in a picture."""
    import cv2

    height, width = gray.shape
    side, share = _closest(gray)
    if max(height, width) < side:
        return PatchPlan(side, (height, width), (height, width))
    factor = max(min(1, 4 * share * side / _MOST), _LEAST_FACTOR)
    longest = 2 * side
    if height > width:
        high, wide = longest, round(longest * width / height)
    else:
        high, wide = round(longest * height / width), longest
    high, wide = round(high / factor), round(wide / factor)
    large = cv2.resize(gray, (wide, high), interpolation=cv2.INTER_CUBIC)
    scale = height / high
    squares = (np.round(np.array(one) * scale) for one in _squares(large, int(_CELL / factor)))
    found = tuple((int(left), int(top), int(side)) for left, top, side in squares)
    return PatchPlan(side, (high, wide), (round(high * scale), round(wide * scale)), found)


def _closest(gray: Gray) -> tuple[int, float]:
    """The largest size at which the network still sees an edge from nearly everywhere, and the
    share of the picture that is near one."""
    import cv2

    shorter = min(gray.shape)
    slopes = cv2.resize(_slopes(gray), (shorter, shorter))
    least, most = float(slopes.min()), float(slopes.max())
    strong = (slopes >= least + _STRONG * (most - least)).astype(np.float32)
    cells = FIELD // _CELL
    end = int(min(_MOST, _MOST_LARGER * max(gray.shape)) / _CELL)
    chosen = cells
    for count in range(cells, max(end, cells + 1), cells // 2):
        edges = _in_cells(strong, count)
        seen = cv2.dilate(edges, np.ones((cells, cells)))
        if (1 - seen).mean() > _UNSEEN:
            break
        chosen = count
    near = cv2.dilate(edges, np.ones((cells // 4, cells // 4)))
    return chosen * _CELL, float(near.mean())


def _in_cells(strong: np.ndarray, count: int) -> np.ndarray:
    """Where edges are, in `count` by `count` cells: fp32 zeros and ones."""
    import cv2

    step = max(1, len(strong) // count)
    more = -len(strong) % step
    padded = np.pad(strong, ((0, more), (0, more)))
    blocks = padded.reshape(len(padded) // step, step, -1, step).max((1, 3))
    return (cv2.resize(blocks, (count, count)) >= 0.5).astype(np.float32)


def _slopes(gray: Gray) -> np.ndarray:
    """How much each pixel differs from those around it."""
    import cv2

    down, right = (cv2.Sobel(gray, cv2.CV_32F, *way, ksize=3) for way in ((0, 1), (1, 0)))
    return np.abs(down) + np.abs(right)


def _squares(large: Gray, step: int) -> list[Square]:
    """Squares with more detail than the picture, each as large as it then can be."""
    import cv2

    slopes = _slopes(large)
    if not slopes.any():
        return []
    slopes[slopes < slopes[slopes > 0].mean(dtype=np.float64)] = 0
    detail = slopes.mean(dtype=np.float64)
    sums = cv2.integral(slopes, sdepth=cv2.CV_64F)
    side, apart = 2 * FIELD, FIELD * 3 // 4
    height, width = large.shape
    grid = [
        (left, top, side)
        for left in range(0, width - side, apart)
        for top in range(0, height - side, apart)
    ]
    found = [_grown(one, sums, detail, step) for one in grid if _density(one, sums) >= detail]
    return sorted(found, key=lambda one: -one[2])


def _grown(square: Square, sums: np.ndarray, detail: float, step: int) -> Square:
    """`square`, larger by `step` as often as its detail and the picture allow."""
    height, width = sums.shape
    while True:
        left, top, side = square[0] - step // 2, square[1] - step // 2, square[2] + step
        if left < 0 or top < 0 or top + side >= height or left + side >= width:
            return square
        if _density((left, top, side), sums) < detail:
            return square
        square = left, top, side


def _density(square: Square, sums: np.ndarray) -> float:
    left, top, side = square
    right, bottom = left + side, top + side
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return float(inside) / side**2
