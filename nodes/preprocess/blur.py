"""Gaussian blurs, the same as OpenCV's.

They are sums of shifted pictures: a convolution would be rounded to TF32 on some GPUs, and what
is a ridge or a line depends on the last bits.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WHOLE = 256
"""OpenCV blurs pictures of 8 bits with whole numbers: weights of 1/256."""


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Floating point pictures [N, C, H, W], blurred with `sigma` pixels."""
    return _convolved(images, kernel(sigma))


def kernel(sigma: float) -> list[float]:
    """The weights: 4 sigma to each side, as OpenCV has it for pictures of floating point."""
    return _weights(sigma, round(sigma * 8 + 1) | 1)


def blurred_whole(images: Tensor, sigma: float) -> Tensor:
    """Pictures of 0 and 1, blurred as OpenCV blurs those of 8 bits: whole numbers to 65536."""
    return _convolved(images, _whole_weights(sigma, round(sigma * 6 + 1) | 1))


def _convolved(images: Tensor, weights: Sequence[float]) -> Tensor:
    """Convolved with symmetric `weights` in both directions; borders mirrored, edge left out."""
    half = len(weights) // 2
    for dim in (-1, -2):
        wide = _mirrored(images, dim, half)
        length = images.shape[dim]
        total = wide.narrow(dim, half, length) * weights[half]
        for offset in range(1, half + 1):
            pair = wide.narrow(dim, half - offset, length) + wide.narrow(dim, half + offset, length)
            total.add_(pair, alpha=weights[half - offset])
        images = total
    return images


def _mirrored(images: Tensor, dim: int, by: int) -> Tensor:
    length = images.shape[dim]
    index = [mirror(position, length) for position in range(-by, length + by)]
    return images.index_select(dim, torch.tensor(index, device=images.device))


def mirror(position: int, length: int) -> int:
    """Where a position outside 0 to `length` - 1 is found: OpenCV's BORDER_REFLECT_101."""
    if length == 1:
        return 0
    period = 2 * (length - 1)
    position %= period
    return min(position, period - position)


def _weights(sigma: float, length: int) -> list[float]:
    """A Gaussian whose sum is 1."""
    half = length // 2
    weights = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-half, half + 1)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _whole_weights(sigma: float, length: int) -> list[float]:
    """The same as whole numbers whose sum is 256, as OpenCV rounds them.

    What rounding leaves is carried to the next weight, and the middle one takes the rest.
    """
    half: list[float] = []
    carried = 0.0
    for weight in _weights(sigma, length)[: length // 2]:
        exact = weight * WHOLE + carried
        half.append(float(round(exact)))
        carried = exact - half[-1]
    return [*half, WHOLE - 2 * sum(half), *reversed(half)]
