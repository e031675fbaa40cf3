"""Canny edges, bit for bit those of OpenCV's `Canny` with its L1 norm and aperture 3.

https://github.com/opencv/opencv/blob/4.x/modules/imgproc/src/canny.cpp
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..method import Batch, Hint, Method, Option
from . import opencv

_TANGENT_BITS = 15

_TANGENT = int(0.4142135623730950488016887242097 * (1 << _TANGENT_BITS) + 0.5)
"""tan(22.5 degrees) as OpenCV has it. tan(67.5 degrees) is this and two."""

_STEPS = 16
"""Edges grow by this many pixels between looks at whether they still grow: each look waits."""


def draw_edges(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """White edges on black."""
    low, high = sorted((int(options["low_threshold"]), int(options["high_threshold"])))
    cv2 = opencv.serving(batch.images)
    if cv2 is not None:
        # 16 frames of 512x512 on one core: 0.1 s; torch takes 5.8 s.
        def compute(frame: opencv.Frame) -> opencv.Frame:
            return cv2.Canny(frame, low, high)

        return Hint(opencv.frame_by_frame(cv2, batch.images, compute))
    candidates, strong = thinned(*gradients(opencv.levels(batch.images)), low, high)
    return Hint(grown(strong, candidates)[:, None].float())


def gradients(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dy, |dx| + |dy|), int32 [N, H, W], of whole numbers [N, C, H, W].

    Sobel's operator with repeated borders; of the channels, the one where the sum is largest.
    """
    padded = functional.pad(images, (1, 1, 1, 1), "replicate")
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    columns = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    dx = rows[..., 2:] - rows[..., :-2]
    dy = columns[..., 2:, :] - columns[..., :-2, :]
    size = dx.abs() + dy.abs()
    best, best_dx, best_dy = size[:, 0], dx[:, 0], dy[:, 0]
    for channel in range(1, images.shape[1]):
        larger = size[:, channel] > best
        best = torch.where(larger, size[:, channel], best)
        best_dx = torch.where(larger, dx[:, channel], best_dx)
        best_dy = torch.where(larger, dy[:, channel], best_dy)
    return best_dx.int(), best_dy.int(), best.int()


def thinned(dx: Tensor, dy: Tensor, size: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """(may be an edge, is an edge), bool [N, H, W]: the largest gradients across their line."""
    height, width = size.shape[-2:]
    around = functional.pad(size, (1, 1, 1, 1))

    def neighbour(down: int, right: int) -> Tensor:
        return around[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x = dx.abs()
    y = dy.abs() << _TANGENT_BITS
    flat = x * _TANGENT
    steep = flat + (x << (_TANGENT_BITS + 1))
    left, right = neighbour(0, -1), neighbour(0, 1)
    above, below = neighbour(-1, 0), neighbour(1, 0)
    along_x = (size > left) & (size >= right)
    along_y = (size > above) & (size >= below)
    falling = (size > neighbour(-1, -1)) & (size > neighbour(1, 1))
    rising = (size > neighbour(-1, 1)) & (size > neighbour(1, -1))
    diagonal = torch.where((dx ^ dy) < 0, rising, falling)
    largest = torch.where(y < flat, along_x, torch.where(y > steep, along_y, diagonal))
    candidates = largest & (size > low)
    return candidates, candidates & (size > high)


def grown(edges: Tensor, candidates: Tensor) -> Tensor:
    """`edges` and all `candidates` that touch them, in any of 8 directions, or by others."""
    now = edges.float()
    allowed = candidates.float()
    while True:
        before = now
        for _ in range(_STEPS):
            now = functional.max_pool2d(now, 3, 1, 1) * allowed
        if torch.equal(now, before):
            return now


METHODS: tuple[Method, ...] = (
    Method(
        "Canny",
        "Canny Edges",
        "lines",
        "Thin white edges where colours change abruptly, by two thresholds: OpenCV's Canny, bit "
        "for bit.",
        draw_edges,
        options=(
            Option(
                "low_threshold",
                100,
                "Weaker changes are no edges; those between the thresholds are edges where they "
                "touch one.",
                0,
                255,
                1,
            ),
            Option("high_threshold", 200, "Stronger changes are always edges.", 0, 255, 1),
        ),
        aliases=("CannyEdgePreprocessor", "canny edge"),
    ),
)
