"""Lines by thresholds and blurs: Binary, Scribble, Scribble XDoG, Standard Lineart.

What they compute, options and defaults are those of
https://github.com/Fannovel16/comfyui_controlnet_aux (e8b689a), where pictures have 8 bits.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..blur import blurred
from ..method import Batch, Hint, Method, Option
from . import opencv

_GRAY = (9798, 19235, 3735)
"""Of 32768: the shares of red, green and blue in OpenCV's gray of 8 bits."""

_DARK = 127
"""Scribble takes what is darker in any colour for a line."""

_FINE, _COARSE = 0.5, 5.0
"""The two blurs whose difference is XDoG, in pixels."""

_LEAST_MEDIAN = 16.0
_MEDIAN_SHADE = 127.0
"""Standard Lineart brings the median of its lines to this shade, but no faint picture."""


def gray(images: Tensor) -> Tensor:
    """OpenCV's gray of 8 bits, whole numbers fp32 [N, 1, H, W], of fp32 [N, 3, H, W] of 0 to 1."""
    red, green, blue = opencv.levels(images).unbind(1)
    weighted = red * _GRAY[0] + green * _GRAY[1] + blue * _GRAY[2]
    return ((weighted + (1 << 14)) / (1 << 15)).floor_()[:, None]


def binary(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """White where the gray is above a threshold; 0 and 255 mean Otsu's own choice."""
    limit = int(options["bin_threshold"])
    cv2 = opencv.serving(batch.images)
    if cv2 is not None:
        # 16 frames of 512x512 on one core: 0.03 s; torch takes 0.18 s.
        kind = cv2.THRESH_BINARY + (cv2.THRESH_OTSU if limit in (0, 255) else 0)

        def compute(frame: opencv.Frame) -> opencv.Frame:
            return cv2.threshold(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), limit, 255, kind)[1]

        return Hint(opencv.frame_by_frame(cv2, batch.images, compute))
    shades = gray(batch.images)
    if limit not in (0, 255):
        return Hint((shades > limit).float())
    limits = torch.tensor([otsu(counts) for counts in histograms(shades)], dtype=torch.float32)
    return Hint((shades > limits.to(shades.device).view(-1, 1, 1, 1)).float())


def histograms(shades: Tensor) -> list[list[int]]:
    """How many pixels of each frame have each of 256 shades."""
    flat = shades.flatten(1).long()
    counts = torch.zeros(len(flat), 256, dtype=torch.int32, device=flat.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.int32))
    return [list(row) for row in counts.tolist()]


def otsu(counts: list[int]) -> int:
    """The shade that parts a histogram into the two most different halves."""
    share = 1 / sum(counts)
    mean = sum(shade * count for shade, count in enumerate(counts)) * share
    below = below_mean = best = 0.0
    chosen = 0
    tiny = 2.0**-23  # OpenCV's FLT_EPSILON
    for shade, count in enumerate(counts):
        part = count * share
        below_mean *= below
        below += part
        above = 1 - below
        if min(below, above) < tiny or max(below, above) > 1 - tiny:
            continue
        below_mean = (below_mean + shade * part) / below
        above_mean = (mean - below * below_mean) / above
        difference = below * above * (below_mean - above_mean) ** 2
        if difference > best:
            best, chosen = difference, shade
    return chosen


def scribble(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Black where any colour is dark, else white."""
    red, green, blue = batch.images.unbind(1)
    darkest = torch.minimum(torch.minimum(red, green), blue)[:, None]
    return Hint((opencv.levels(darkest) >= _DARK).float())


def xdog(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """White where a fine blur is brighter than a coarse one by more than the threshold's half."""
    limit = int(options["threshold"])
    cv2 = opencv.serving(batch.images)
    if cv2 is not None:
        # 16 frames of 512x512 on one core: 0.2 s; torch takes 3 s.
        def compute(frame: opencv.Frame) -> opencv.Frame:
            pixels = frame.astype("float32")
            coarse = cv2.GaussianBlur(pixels, (0, 0), _COARSE)
            difference = cv2.subtract(coarse, cv2.GaussianBlur(pixels, (0, 0), _FINE))
            kept = (opencv.MOST - opencv.least(cv2, difference)).clip(0, opencv.MOST)
            # "2 * (255 - n) > limit" for a whole number n, which `kept` is cut off to.
            return (kept < math.ceil(opencv.MOST - limit / 2)).view("uint8") * 255

        return Hint(opencv.frame_by_frame(cv2, batch.images, compute))
    pixels = opencv.levels(batch.images)
    difference = (blurred(pixels, _COARSE) - blurred(pixels, _FINE)).amin(1, keepdim=True)
    # The reference keeps 255 less this in 8 bits, cut off to a whole number.
    kept = (opencv.MOST - difference).clamp_(0, opencv.MOST).floor_()
    return Hint((2 * (opencv.MOST - kept) > limit).float())


def standard(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """How much darker than its surroundings each pixel is; lines are bright."""
    sigma, limit = float(options["guassian_sigma"]), int(options["intensity_threshold"])
    if sigma == 0:
        return Hint(torch.zeros_like(batch.images[:, :1]))
    cv2 = opencv.serving(batch.images)
    if cv2 is not None:
        # 16 frames of 512x512 on one core: 0.2 s; torch takes 2 s.
        import numpy

        def compute(frame: opencv.Frame) -> opencv.Frame:
            pixels = frame.astype("float32")
            blur = cv2.GaussianBlur(pixels, (0, 0), sigma)
            depth = opencv.least(cv2, cv2.subtract(blur, pixels)).clip(0, opencv.MOST)
            above = depth[depth > limit]
            median = float(numpy.median(above)) if len(above) else 0.0
            return (depth * (_MEDIAN_SHADE / max(_LEAST_MEDIAN, median))).clip(0, opencv.MOST)

        return Hint(opencv.frame_by_frame(cv2, batch.images, compute))
    pixels = opencv.levels(batch.images)
    depth = (blurred(pixels, sigma) - pixels).amin(1, keepdim=True).clamp_(0, opencv.MOST)
    medians = middle_above(depth, limit).clamp_(min=_LEAST_MEDIAN)
    shades = depth / medians.view(-1, 1, 1, 1) * _MEDIAN_SHADE
    return Hint(shades.clamp_(0, opencv.MOST) / opencv.MOST)


def middle_above(planes: Tensor, limit: float) -> Tensor:
    """fp32 [N]: for each plane the median of what is larger than `limit`; 0 where nothing is."""
    ordered = planes.flatten(1).sort(dim=1, descending=True).values
    counts = (ordered > limit).sum(1, keepdim=True)
    last = (counts - 1).clamp_(min=0)
    middle = (ordered.gather(1, last // 2) + ordered.gather(1, (last + 1) // 2)) / 2
    return torch.where(counts > 0, middle, torch.zeros_like(middle))[:, 0]


_OTSU = "A pixel is white if its gray is above this. 0 and 255: chosen for each picture (Otsu)."

METHODS: tuple[Method, ...] = (
    Method(
        "Binary",
        "Binary Lines",
        "lines",
        "Black and white: what is brighter than a threshold is white.",
        binary,
        options=(Option("bin_threshold", 100, _OTSU, 0, 255, 1),),
        aliases=("BinaryPreprocessor",),
    ),
    Method(
        "Scribble",
        "Scribble Lines",
        "lines",
        "Black where any colour is dark, else white: for pictures that are drawings.",
        scribble,
        aliases=("ScribblePreprocessor",),
    ),
    Method(
        "ScribbleXDoG",
        "Scribble XDoG Lines",
        "lines",
        "White strokes on black, from the difference of two blurs.",
        xdog,
        options=(Option("threshold", 32, "Smaller values give more strokes.", 1, 64, 1),),
        aliases=("Scribble_XDoG_Preprocessor",),
    ),
    Method(
        "StandardLineart",
        "Standard Lineart",
        "lines",
        "Lines that are darker than what is around them, bright on black.",
        standard,
        options=(
            Option(
                # Misspelt in the best-known pack, and in the workflows that were made for it.
                "guassian_sigma",
                6.0,
                "How far around, in pixels, a line is compared with (sigma of a Gaussian blur).",
                0.0,
                100.0,
                0.01,
            ),
            Option(
                "intensity_threshold",
                8,
                "Only what is darker than its surroundings by more than this, of 255, decides how "
                "bright the lines become.",
                0,
                16,
                1,
            ),
        ),
        aliases=("LineartStandardPreprocessor",),
    ),
)
