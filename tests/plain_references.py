"""What OpenCV, controlnet_aux and the best-known pack compute: references for preprocessors.

Those of the pack (https://github.com/Fannovel16/comfyui_controlnet_aux, e8b689a) are written
down here in OpenCV's terms; all take and give uint8 [H, W, 3] or [H, W].
"""

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

Frame = Any


@functools.cache
def controlnet_aux() -> Any:
    """The package; a mediapipe that it cannot take is kept from it."""
    hidden = sys.modules.get("mediapipe")
    sys.modules["mediapipe"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import controlnet_aux as package
    finally:
        del sys.modules["mediapipe"]
        if hidden is not None:
            sys.modules["mediapipe"] = hidden
    return package


def canny(frame: Frame, low_threshold: int, high_threshold: int) -> Frame:
    """OpenCV's own."""
    return cv2.Canny(frame, low_threshold, high_threshold)


def binary(frame: Frame, bin_threshold: int) -> Frame:
    """White above the threshold."""
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    kind = cv2.THRESH_BINARY_INV + (cv2.THRESH_OTSU if bin_threshold in (0, 255) else 0)
    return 255 - cv2.threshold(gray, bin_threshold, 255, kind)[1]


def scribble(frame: Frame) -> Frame:
    """Black where a colour is dark."""
    return np.where(np.min(frame, axis=2) < 127, 0, 255).astype(np.uint8)


def xdog(frame: Frame, threshold: int) -> Frame:
    """From two blurs."""
    fine = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 0.5)
    coarse = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 5.0)
    dog = (255 - np.min(coarse - fine, axis=2)).clip(0, 255).astype(np.uint8)
    return np.where(2 * (255 - dog) > threshold, 255, 0).astype(np.uint8)


def color(frame: Frame) -> Frame:
    """Squares."""
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (width // 64, height // 64), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def recolored(conversion: int, channel: int) -> Callable[..., Frame]:
    """A channel of another colour space, to the power of gamma."""

    def compute(frame: Frame, gamma_correction: float) -> Frame:
        shades = cv2.cvtColor(frame, conversion)[:, :, channel].astype(np.float32) / 255.0
        return (shades**gamma_correction * 255.0).clip(0, 255).astype(np.uint8)

    return compute


def tile(frame: Frame, pyrUp_iters: int) -> Frame:  # noqa: N803 (the pack's name)
    """Small and large again."""
    height, width = (side // 2**pyrUp_iters for side in frame.shape[:2])
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    for _ in range(pyrUp_iters):
        small = cv2.pyrUp(small)
    return small


def shuffled(frame: Frame, seed: int) -> Frame:
    """controlnet_aux's own disk of noise, with the pack's seed."""
    height, width = frame.shape[:2]

    def disk(random: Any) -> Frame:
        noise = random.uniform(0, 1, (height // 256 + 2, width // 256 + 2, 1))
        size = (width + 512, height + 512)
        noise = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
        noise = noise[256 : 256 + height, 256 : 256 + width]
        noise = noise - noise.min()
        return noise / noise.max()

    random = np.random.default_rng(seed)
    x = (disk(random) * (width - 1)).astype(np.float32)
    y = (disk(random) * (height - 1)).astype(np.float32)
    return cv2.remap(frame, x, y, cv2.INTER_LINEAR)


def standard_lineart(frame: Frame, guassian_sigma: float, intensity_threshold: int) -> Frame:
    """controlnet_aux's detector."""
    detect = controlnet_aux().LineartStandardDetector()
    side = min(frame.shape[:2])
    return detect(frame, guassian_sigma, intensity_threshold, side, output_type="np")
