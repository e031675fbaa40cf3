"""What depth networks share: pixels as they were trained with, and depths as gray pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, from 0 to 1, red green blue: what torchvision's networks learnt with."""


def normalised(
    images: Tensor,
    mean: Sequence[float] = IMAGENET_MEAN,
    deviation: Sequence[float] = IMAGENET_DEVIATION,
) -> Tensor:
    """`images` [N, 3, H, W] with another mean and deviation in each channel."""
    centre = torch.tensor(mean, dtype=images.dtype, device=images.device)[:, None, None]
    spread = torch.tensor(deviation, dtype=images.dtype, device=images.device)[:, None, None]
    return (images - centre) / spread


def stretched(depths: Tensor) -> Tensor:
    """`depths` [N, 1, H, W], each from its least value, 0, to its greatest, 1.

    A depth that is the same everywhere becomes 0.
    """
    least = depths.amin((1, 2, 3), keepdim=True)
    extent = depths.amax((1, 2, 3), keepdim=True) - least
    return (depths - least) / torch.where(extent > 0, extent, 1)
