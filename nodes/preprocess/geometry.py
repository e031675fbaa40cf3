"""Sizes of pictures on their way through a preprocessor, and how they are resized.

Shrinking takes the mean over the area that a pixel covers, enlarging is bicubic: what OpenCV's
INTER_AREA and INTER_CUBIC compute, and the best-known pack uses, in floating point.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MOST_ASPECT = 8
"""How many times longer than its shorter side a picture may be for networks that look at all
pictures with a shorter side of their own: a row of pixels would be looked at for hours."""


@dataclass(frozen=True)
class Geometry:
    """Heights and widths in pixels, each as (height, width)."""

    given: tuple[int, int]
    """Of the node's input."""
    computed: tuple[int, int]
    """At the resolution that was asked for."""
    padded: tuple[int, int]
    """What the preprocessor sees: `computed`, and what it needs at the right and the bottom."""
    result: tuple[int, int]
    """Of the node's output."""


def geometry(
    height: int, width: int, resolution: int, multiple_of: int = 1, match_input: bool = False
) -> Geometry:
    """The sizes for a picture. `resolution` is that of the short side; 0 keeps the picture's.

    The aspect ratio is kept, to the nearest pixel.
    """
    given = computed = (height, width)
    if resolution:
        factor = resolution / min(given)
        computed = (max(1, round(height * factor)), max(1, round(width * factor)))
    padded = (_up(computed[0], multiple_of), _up(computed[1], multiple_of))
    return Geometry(given, computed, padded, given if match_input else computed)


def _up(side: int, multiple_of: int) -> int:
    return -(-side // multiple_of) * multiple_of


def prepared(images: Tensor, sizes: Geometry) -> Tensor:
    """[N, C, *given] -> [N, C, *padded]: resized, and the last row and column repeated."""
    images = resized(images, sizes.computed)
    down = sizes.padded[0] - sizes.computed[0]
    right = sizes.padded[1] - sizes.computed[1]
    return functional.pad(images, (0, right, 0, down), "replicate") if down or right else images


def finished(pictures: Tensor, sizes: Geometry) -> Tensor:
    """[N, C, *padded] -> [N, C, *result]: without the padding, and resized if asked for."""
    height, width = sizes.computed
    return resized(pictures[..., :height, :width], sizes.result)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """fp32 [N, C, H, W] of 0 to 1 at another size; `images` itself where nothing changes."""
    if tuple(images.shape[-2:]) == size:
        return images
    shrunk = images
    for dim, wanted in zip((-2, -1), size, strict=True):
        if wanted < shrunk.shape[dim]:
            shrunk = _area(shrunk, dim, wanted)
    if tuple(shrunk.shape[-2:]) == size:
        return shrunk
    large = functional.interpolate(shrunk, size, mode="bicubic", align_corners=False)
    return large.clamp_(0, 1)


def _area(images: Tensor, dim: int, wanted: int) -> Tensor:
    """Means over equal shares of dimension `dim`, pixels at the borders of shares in part."""
    length = images.shape[dim]
    if length % wanted == 0:
        return images.unflatten(dim, (wanted, length // wanted)).mean(dim)
    indices, weights = shares(length, wanted)
    shape = [1] * images.ndim
    shape[dim] = wanted
    total: Tensor | None = None
    for index, weight in zip(indices.to(images.device), weights.to(images.device), strict=True):
        part = images.index_select(dim, index).mul_(weight.view(shape))
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def shares(length: int, wanted: int) -> tuple[Tensor, Tensor]:
    """The pixels in each of `wanted` equal shares of `length`: indices and weights [K, wanted]."""
    step = length / wanted
    start = torch.arange(wanted, dtype=torch.float64, device="cpu") * step
    first = start.floor()
    taps = torch.arange(int(step) + 2, dtype=torch.float64, device="cpu")[:, None]
    pixel = first + taps
    covered = torch.minimum(pixel + 1, start + step) - torch.maximum(pixel, start)
    weights = covered.clamp(min=0).where(pixel < length, torch.zeros(()).double())
    weights = weights / weights.sum(0)
    return pixel.clamp(max=length - 1).long(), weights.float()


def rgb(images: Tensor) -> Tensor:
    """[N, 1, 3 or 4, H, W] -> [N, 3, H, W]; what is transparent is white, as in ControlNet."""
    channels = images.shape[1]
    if channels == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 4:
        colour, alpha = images[:, :3], images[:, 3:]
        return colour * alpha + (1 - alpha)
    return images
