"""AnyLine: TEED's edges of objects, with fine lines of another method laid over them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blur import blurred
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from . import annotators, lineart, lineart_anime, manga_line, teed
from .soft_edges import SAFE_STEPS, stepped

_STANDARD = "lineart_standard"

_CHANNELS = 3
"""The reference counts an object's pixels in each of three equal channels."""

_SIGMA, _LEAST_SHADE = 2.0, 3.0
"""Standard lineart's settings in AnyLine: pixels, and what counts for its median, of 255."""

_LEAST_MEDIAN, _MEDIAN_SHADE = 16.0, 127.0

_DRAWING: Mapping[str, tuple[WeightFile, Callable[[Path], nn.Module]]] = {
    "lineart_realistic": (annotators.LINEART, lineart.network_of),
    "lineart_anime": (annotators.LINEART_ANIME, lineart_anime.network_of),
    "manga_line": (annotators.MANGA_LINE, manga_line.network_of),
}


class EdgesAndLines(nn.Module):
    """fp32 [N, 2, H, W] of pictures [N, 3, H, W] of 0 to 1: soft edges, and lines of 0 on 1."""

    def __init__(self, edges: nn.Module, lines: nn.Module) -> None:
        super().__init__()
        self.edges = edges
        self.lines = lines

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat((self.edges(images), self.lines(images).float()), 1)


def _load(choice: str, paths: Paths) -> nn.Module:
    edges = teed.network_of(paths[annotators.ANYLINE.name])
    if choice == _STANDARD:
        return edges
    file, load = _DRAWING[choice]
    return EdgesAndLines(edges, load(paths[file.name])).eval()


def _network(choice: str) -> NetworkSpec:
    more = () if choice == _STANDARD else (_DRAWING[choice][0],)
    return NetworkSpec((annotators.ANYLINE, *more), partial(_load, choice))


def standard_lines(images: Tensor) -> Tensor:
    """Standard lineart of pictures of 0 to 1: fp32 [N, 1, H, W] of 0 to 255.

    How much darker a pixel is than what is around it, brought to one median shade.
    """
    pixels = images * 255
    lines = (blurred(pixels, _SIGMA) - pixels).amin(1, keepdim=True).clamp_(0, 255)
    median = _median_above(lines.flatten(1), _LEAST_SHADE).clamp_min_(_LEAST_MEDIAN)
    return (lines / median.view(-1, 1, 1, 1) * _MEDIAN_SHADE).clamp_(0, 255)


def _median_above(values: Tensor, least: float) -> Tensor:
    """The median of each row's values above `least`, 0 if there are none: [N] of [N, count]."""
    above = values > least
    count = above.sum(1, keepdim=True)
    ordered = torch.where(above, values, torch.inf).sort(1).values
    middle = torch.cat(((count - 1) // 2, count // 2), 1).clamp_min_(0)
    return torch.where(count > 0, ordered.gather(1, middle), 0).mean(1)


def draw_lines(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Edges with lines laid over them, white on black."""
    assert network is not None
    found = network(batch.images)
    edges = stepped(found[:, :1], SAFE_STEPS)
    if options["merge_with_lineart"] == _STANDARD:
        shades = standard_lines(batch.images)
    else:
        shades = (1 - found[:, 1:]).clamp_(0, 1) * 255
    # In the reference, lines have 8 bits: shades below 1 are no part of an object.
    lines = shades.floor_() / 255
    least, most = float(options["lineart_lower_bound"]), float(options["lineart_upper_bound"])
    lines = torch.where((lines >= least) & (lines <= most), lines, 0)
    smallest = -(-int(options["object_min_size"]) // _CHANNELS)
    objects = large_objects(lines > 0, smallest, int(options["object_connectivity"]) > 1)
    return Hint(torch.where(objects, 1 - (1 - lines) * (1 - edges), edges))


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


METHODS = (
    Method(
        name="AnyLine",
        title="AnyLine",
        group="lines",
        description="Edges of objects by TEED and fine lines in one picture. Made for a "
        "resolution of 1280.",
        make_hint=draw_lines,
        options=(
            Option(
                "merge_with_lineart",
                _STANDARD,
                "Where the fine lines come from; all but lineart_standard need a second network.",
                choices=(_STANDARD, *_DRAWING),
            ),
            Option(
                "lineart_lower_bound",
                0.0,
                "Fine lines that are darker are left out.",
                least=0,
                most=1,
                step=0.01,
            ),
            Option(
                "lineart_upper_bound",
                1.0,
                "Fine lines that are brighter are left out.",
                least=0,
                most=1,
                step=0.01,
            ),
            Option(
                "object_min_size",
                36,
                "Fine lines of fewer pixels are left out; each pixel counts three times, once "
                "for each colour, as in the original.",
                least=1,
                most=4096,
                step=1,
            ),
            Option(
                "object_connectivity",
                1,
                "1: pixels of a line touch at their sides; 2: corners are enough.",
                least=1,
                most=2,
                step=1,
            ),
        ),
        networks={choice: _network(choice) for choice in (_STANDARD, *_DRAWING)},
        network_option="merge_with_lineart",
        multiple_of=64,
        aliases=("AnyLineArtPreprocessor_aux",),
    ),
)
