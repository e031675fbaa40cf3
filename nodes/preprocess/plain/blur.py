"""Gaussian blur, as OpenCV computes it for floating point pictures with ksize (0, 0)."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def blurred(images: Tensor, sigma: float) -> Tensor:
    """fp32 [N, C, H, W], blurred with `sigma` pixels; borders are mirrored without the edge."""
    weights = kernel(sigma).to(images.device)
    frames, channels, height, width = images.shape
    planes = images.reshape(frames * channels, 1, height, width)
    planes = functional.conv2d(_mirrored(planes, -1, len(weights) // 2), weights.view(1, 1, 1, -1))
    planes = functional.conv2d(_mirrored(planes, -2, len(weights) // 2), weights.view(1, 1, -1, 1))
    return planes.view(frames, channels, height, width)


def kernel(sigma: float) -> Tensor:
    """The weights, fp32, on the CPU: 4 sigma to each side, as OpenCV has it for such pictures."""
    length = round(sigma * 8 + 1) | 1
    half = length // 2
    weights = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-half, half + 1)]
    total = math.fsum(weights)
    return torch.tensor([weight / total for weight in weights], dtype=torch.float32, device="cpu")


def _mirrored(planes: Tensor, dim: int, by: int) -> Tensor:
    length = planes.shape[dim]
    index = [mirror(position, length) for position in range(-by, length + by)]
    return planes.index_select(dim, torch.tensor(index, device=planes.device))


def mirror(position: int, length: int) -> int:
    """Where a position outside 0 to `length` - 1 is found: OpenCV's BORDER_REFLECT_101."""
    if length == 1:
        return 0
    period = 2 * (length - 1)
    position %= period
    return min(position, period - position)
