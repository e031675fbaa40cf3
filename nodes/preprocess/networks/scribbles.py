"""Soft edges to scribbles: their ridges, thickened, black and white.

The same as controlnet_aux's `nms` and what its detectors do with it, batched on the device.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..blur import WHOLE, blurred, blurred_whole

_SIGMA = 3.0

_STRONG = 127.0
"""Of 255: ridges that are weaker after the blur are left out."""

_LEAST = 4.5 * WHOLE**2 / 255
"""A pixel is white where the blurred line is above 4 of 255 once it is rounded."""

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Across which a ridge may run, as (rows, columns)."""


def scribble(edges: Tensor) -> Tensor:
    """fp32 [N, 1, H, W] of zeros and ones, of edges of 0 to 1; both sides are 13 or more.

    The reference works on edges of 8 bits, so theirs are cut to the same shades.
    """
    shades = (edges * 255).floor_().clamp_(0, 255)
    smooth = blurred(shades, _SIGMA)
    lines = (_ridges(smooth) & (smooth > _STRONG)).float()
    return (blurred_whole(lines, _SIGMA) >= _LEAST).float()


def _ridges(values: Tensor) -> Tensor:
    """Where no neighbour is larger, in at least one of four directions."""
    height, width = values.shape[-2:]
    around = functional.pad(values, (1, 1, 1, 1), value=-math.inf)
    found = torch.zeros_like(values, dtype=torch.bool)
    for down, right in _NEIGHBOURS:
        one = around[..., 1 + down :, 1 + right :][..., :height, :width]
        other = around[..., 1 - down :, 1 - right :][..., :height, :width]
        found |= values >= torch.maximum(one, other)
    return found
