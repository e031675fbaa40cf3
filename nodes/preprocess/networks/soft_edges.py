"""Edge maps of 0 to 1 out of networks that see edges at several scales."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..method import Option

SAFE = Option(
    "safe",
    "enable",
    "Give edges in three shades only, so that weak details of the picture are not copied.",
    choices=("enable", "disable"),
)


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
