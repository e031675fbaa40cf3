"""Colours and shades: Color, Recolor by luminance and by intensity.

What they compute, options and defaults are those of
https://github.com/Fannovel16/comfyui_controlnet_aux (e8b689a).
"""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..method import Batch, Hint, Method, Option
from . import opencv

_CELL = 64
"""Pixels of a side of Color's squares."""

# OpenCV's L of CIE Lab in 8 bits, which is whole numbers and two tables:
# https://github.com/opencv/opencv/blob/4.x/modules/imgproc/src/color_lab.cpp
_Y = (871.0, 2929.0, 296.0)
"""Of 4096: the shares of red, green and blue (sRGB, D65) in Y of CIE XYZ."""

_FINER = 8
"""Steps of linear light in one of 255."""

_ROOT_ONE = 1 << 15
_SCALE, _OFFSET = 296.0, -1336934.0
"""L from a cube root: 116 and -16, of 255 in place of 100."""


def squares(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """The picture in squares of about 64 pixels, of one colour each."""
    height, width = batch.images.shape[-2:]
    small = (max(1, height // _CELL), max(1, width // _CELL))
    cv2 = opencv.serving(batch.images)
    if cv2 is not None:
        # 16 frames of 512x512 on one core: 0.04 s; torch takes 0.07 s.
        def compute(frame: opencv.Frame) -> opencv.Frame:
            squares = cv2.resize(frame, small[::-1], interpolation=cv2.INTER_CUBIC)
            return cv2.resize(squares, (width, height), interpolation=cv2.INTER_NEAREST)

        return Hint(opencv.frame_by_frame(cv2, batch.images, compute))
    cells = functional.interpolate(batch.images, small, mode="bicubic", align_corners=False)
    return Hint(functional.interpolate(cells.clamp_(0, 1), (height, width), mode="nearest"))


def luminance(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """L of CIE Lab, as a gray picture."""
    cv2 = opencv.serving(batch.images)
    if cv2 is not None:
        # 16 frames of 512x512 on one core: 0.05 s; torch takes 0.4 s.
        def compute(frame: opencv.Frame) -> opencv.Frame:
            return cv2.extractChannel(cv2.cvtColor(frame, cv2.COLOR_BGR2LAB), 0)

        return Hint(_corrected(opencv.frame_by_frame(cv2, batch.images, compute), options))
    pixels = opencv.levels(batch.images)
    light = table(_linear_light()).to(pixels.device)[pixels.int()]
    # The reference hands RGB to a conversion from BGR, and ControlNets were trained with it.
    blue, green, red = light.unbind(1)
    bright = _rounded(red * _Y[0] + green * _Y[1] + blue * _Y[2], 1 << 12)
    roots = table(_cube_roots()).to(pixels.device)[bright.int()]
    shades = _rounded(roots * _SCALE + _OFFSET, _ROOT_ONE)
    return Hint(_corrected(shades[:, None] / opencv.MOST, options))


def _rounded(values: Tensor, divisor: int) -> Tensor:
    return ((values + divisor / 2) / divisor).floor_()


def table(values: list[float]) -> Tensor:
    """fp32 on the CPU."""
    return torch.tensor(values, dtype=torch.float32, device="cpu")


@functools.cache
def _linear_light() -> list[float]:
    """sRGB of 0 to 255 without its gamma, of 0 to 255 in steps of 1 / `_FINER`."""

    def light(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    return [float(round(255 * _FINER * light(level / 255))) for level in range(256)]


@functools.cache
def _cube_roots() -> list[float]:
    """Of `_ROOT_ONE`: cube roots of light of 0 to 255 in steps of 1 / `_FINER`."""

    def root(value: float) -> float:
        return value * 7.787 + 16 / 116 if value < 0.008856 else value ** (1 / 3)

    return [float(round(_ROOT_ONE * root(step / (255 * _FINER)))) for step in range(256 * _FINER)]


def intensity(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """The brightest colour of each pixel (V of HSV), as a gray picture."""
    red, green, blue = batch.images.unbind(1)
    return Hint(_corrected(torch.maximum(torch.maximum(red, green), blue)[:, None], options))


def _corrected(shades: Tensor, options: Mapping[str, Any]) -> Tensor:
    shades = shades.clamp_(0, 1)
    gamma = float(options["gamma_correction"])
    return shades if gamma == 1 else shades.pow_(gamma)


_GAMMA = Option(
    "gamma_correction",
    1.0,
    "Shades of 0 to 1 to the power of this: less than 1 is brighter, more is darker.",
    0.1,
    2.0,
    0.01,
)

METHODS: tuple[Method, ...] = (
    Method(
        "Color",
        "Color Palette",
        "colour and tiles",
        "The picture in squares of about 64 pixels, for adapters that steer colours.",
        squares,
        aliases=("ColorPreprocessor", "Color Pallete"),
    ),
    Method(
        "ImageLuminance",
        "Image Luminance (Recolor)",
        "colour and tiles",
        "How bright each pixel looks, as a gray picture: for ControlNets that colour it anew.",
        luminance,
        options=(_GAMMA,),
        aliases=("ImageLuminanceDetector", "recolor"),
    ),
    Method(
        "ImageIntensity",
        "Image Intensity (Recolor)",
        "colour and tiles",
        "The brightest colour of each pixel, as a gray picture: for ControlNets that colour it "
        "anew.",
        intensity,
        options=(_GAMMA,),
        aliases=("ImageIntensityDetector", "recolor"),
    ),
)
