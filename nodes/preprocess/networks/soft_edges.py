"""Edge maps of 0 to 1 out of networks that see edges at several scales, and scribbles of them."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blur import WHOLE, blurred, blurred_whole
from ..method import Batch, Hint, Option

SAFE = Option(
    "safe",
    "enable",
    "Give edges in three shades only, so that weak details of the picture are not copied.",
    choices=("enable", "disable"),
)

SAFE_STEPS = 2
"""Between the three shades."""

_SCRIBBLE_SIGMA = 3.0

_STRONG_RIDGE = 127.0
"""Of 255: ridges that are weaker after the blur are left out."""

_LEAST_SCRIBBLE = 4.5 * WHOLE**2 / 255
"""A pixel is white where the blurred line is above 4 of 255 once it is rounded."""

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Across which a ridge may run, as (rows, columns)."""


class MeanOfSides(nn.Module):
    """fp32 edges [N, 1, H, W] of pictures [N, 3, H, W] of 0 to 1.

    They are the sigmoid of the mean of all maps of `network`, which takes pictures of 0 to 255
    and gives a list of maps [N, 1, h, w], H by W or smaller.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[-2:]
        sides = [self._enlarged(side, size) for side in self.network(images * 255)]
        return torch.sigmoid(torch.cat(sides, 1).float().mean(1, keepdim=True))

    @staticmethod
    def _enlarged(side: Tensor, size: torch.Size) -> Tensor:
        if side.shape[-2:] == size:
            return side
        return functional.interpolate(side, size, mode="bilinear", align_corners=False)


def stepped(edges: Tensor, steps: int) -> Tensor:
    """`edges` of 0 to 1 in `steps` + 1 shades: controlnet_aux's `safe_step`."""
    return (edges * (steps + 1)).trunc().div_(steps).clamp_(0, 1)


def draw_soft_edges(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """A method's `make_hint`: what `network` says of edges, in three shades if `SAFE` is on."""
    return Hint(_edges(network, batch, options))


def draw_scribbles(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """A method's `make_hint`: scribbles along the same edges."""
    return Hint(scribble(_edges(network, batch, options)))


def _edges(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Tensor:
    assert network is not None
    edges = network(batch.images)
    return stepped(edges, SAFE_STEPS) if options[SAFE.name] == "enable" else edges


def scribble(edges: Tensor) -> Tensor:
    """fp32 [N, 1, H, W] of zeros and ones, of edges of 0 to 1; both sides are 13 or more.

    The same as controlnet_aux's `nms` and what its detectors do with it, batched on the device.
    The reference works on edges of 8 bits, so theirs are cut to the same shades.
    """
    shades = (edges * 255).floor_().clamp_(0, 255)
    smooth = blurred(shades, _SCRIBBLE_SIGMA)
    lines = (_ridges(smooth) & (smooth > _STRONG_RIDGE)).float()
    return (blurred_whole(lines, _SCRIBBLE_SIGMA) >= _LEAST_SCRIBBLE).float()


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
