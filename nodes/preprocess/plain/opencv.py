"""OpenCV, where it is installed: on the CPU it is faster than what is batched in torch.

It is no requirement of this extension (the package `controlnet-aux` brings it); without it, the
CPU computes what devices do, with the same result.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy

Frame: TypeAlias = "numpy.ndarray"
"""uint8 [H, W, 3] or [H, W]."""

MOST = 255.0
"""Of 8 bits: what the references compute in."""


@functools.cache
def _module() -> ModuleType | None:
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def serving(images: Tensor) -> ModuleType | None:
    """The module `cv2`, for pictures on the CPU; None for others, or if it is not installed."""
    return _module() if images.device.type == "cpu" else None


def levels(images: Tensor) -> Tensor:
    """Pictures of 0 to 1 as whole numbers of 0 to 255, still fp32."""
    return (images * MOST).round_().clamp_(0, MOST)


def frame_by_frame(cv2: ModuleType, images: Tensor, compute: Callable[[Frame], Frame]) -> Tensor:
    """`compute` (uint8 [H, W, 3] -> [H, W] or [H, W, 3] of 0 to 255) for each of `images`.

    `images` and the result are fp32 [N, 3 or 1, H, W] of 0 to 1 on the CPU.
    """
    if float(images.amin()) < 0:
        images = images.clamp(min=0)
    result: Tensor | None = None
    for index, image in enumerate(images):
        frame = image.movedim(0, -1).contiguous().numpy()
        # Of OpenCV's ways to 8 bits the fastest; it would take -0.1 for 0.1.
        computed = torch.from_numpy(compute(cv2.convertScaleAbs(frame, alpha=MOST)))
        if result is None:
            result = torch.empty(len(images), *computed.shape)
        result[index].copy_(computed).div_(MOST)
    assert result is not None
    return result.movedim(-1, 1) if result.ndim == images.ndim else result[:, None]


def least(cv2: ModuleType, frame: Frame) -> Frame:
    """[H, W]: the least of a frame's [H, W, 3] three colours."""
    red, green, blue = cv2.split(frame)
    return cv2.min(cv2.min(red, green), blue)
