"""Small objects out of masks, on any device, without waiting for it."""

import torch
from torch import Tensor
from torch.nn import functional


def large_objects(mask: Tensor, least: int, diagonal: bool) -> Tensor:
    """bool [N, 1, H, W]: `mask` without connected objects of fewer than `least` pixels.

    `diagonal` says whether pixels that touch at a corner are connected. The same as
    skimage's `remove_small_objects`.

    Every pixel starts with a number of its own and takes the largest of its neighbours' in each
    step, so that after `least` steps an object of fewer pixels has one number. An object in
    which two numbers still meet is larger than that.
    """
    frames, _, height, width = mask.shape
    own = torch.arange(1, height * width + 1, dtype=torch.int32, device=mask.device)
    numbers = own.view(1, 1, height, width) * mask
    for _ in range(least):
        numbers = _largest_around(numbers, diagonal) * mask
    turned = (height * width + 1 - numbers) * mask
    meets = (_largest_around(numbers, diagonal) * mask != numbers) | (
        _largest_around(turned, diagonal) * mask != turned
    )
    # One row of counters a frame; the counter 0 is that of the background.
    places = numbers.flatten(1).long()
    weights = torch.where(meets, least, 1).to(torch.int32).flatten(1)
    counters = torch.zeros(frames, height * width + 1, dtype=torch.int32, device=mask.device)
    counters.scatter_add_(1, places, weights)
    return (counters.gather(1, places) >= least).view_as(mask) & mask


def _largest_around(numbers: Tensor, diagonal: bool) -> Tensor:
    """The largest number of each pixel and its neighbours."""
    rows = _largest_along(numbers, -2)
    if diagonal:
        return _largest_along(rows, -1)
    return torch.maximum(rows, _largest_along(numbers, -1))


def _largest_along(numbers: Tensor, dim: int) -> Tensor:
    length = numbers.shape[dim]
    around = functional.pad(numbers, (1, 1, 0, 0) if dim == -1 else (0, 0, 1, 1))
    before, after = around.narrow(dim, 0, length), around.narrow(dim, 2, length)
    return torch.maximum(numbers, torch.maximum(before, after))
