"""Edge maps of 0 to 1 out of networks that see edges at several scales."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..method import Batch, Hint, Option
from .scribbles import scribble

SAFE = Option(
    "safe",
    "enable",
    "Give edges in three shades only, so that weak details of the picture are not copied.",
    choices=("enable", "disable"),
)

SAFE_STEPS = 2
"""Between the three shades."""


class MeanOfSides(nn.Module):
    """fp32 edges [N, 1, H, W] of pictures [N, 3, H, W] of 0 to 1.

    They are the sigmoid of the mean of all maps of `network`, which takes pictures of 0 to 255
    and gives a list of maps [N, 1, h, w], H by W or smaller.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
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
