"""Content Shuffle: the picture's parts, moved along smooth noise.

https://github.com/Fannovel16/comfyui_controlnet_aux (e8b689a), with its seed.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..method import Batch, Hint, Method, Option
from . import opencv

_SIZE = 256
"""Pixels between two random numbers."""


def move_parts(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """The same parts move to the same places in every picture."""
    height, width = batch.images.shape[-2:]
    x, y = (noise.to(batch.images.device) for noise in noises(height, width, int(options["seed"])))
    across, down = (smooth(noise, height, width) for noise in (x, y))
    cv2 = opencv.serving(batch.images)
    if cv2 is not None:
        # 16 frames of 512x512 on one core: 0.1 s; torch takes 0.16 s.
        maps = (across * (width - 1)).numpy(), (down * (height - 1)).numpy()

        def compute(frame: opencv.Frame) -> opencv.Frame:
            return cv2.remap(frame, *maps, cv2.INTER_LINEAR)

        return Hint(opencv.frame_by_frame(cv2, batch.images, compute))
    places = torch.stack((across, down), -1) * 2 - 1
    places = places.expand(len(batch.images), -1, -1, -1)
    moved = functional.grid_sample(
        batch.images, places, mode="bilinear", padding_mode="border", align_corners=True
    )
    return Hint(moved)


def noises(height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random numbers of 0 to 1 for x and y, a grid point every `_SIZE` pixels, on the CPU."""
    import numpy

    random = numpy.random.default_rng(seed)
    shape = (height // _SIZE + 2, width // _SIZE + 2)
    x, y = (random.uniform(0, 1, shape) for _ in range(2))
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def smooth(noise: Tensor, height: int, width: int) -> Tensor:
    """fp32 [height, width] of exactly 0 to 1: the noise between its points."""
    size = (height + 2 * _SIZE, width + 2 * _SIZE)
    large = functional.interpolate(noise[None, None], size, mode="bicubic", align_corners=False)
    part = large[0, 0, _SIZE : _SIZE + height, _SIZE : _SIZE + width]
    part = part - part.min()
    return part / part.max()


METHODS: tuple[Method, ...] = (
    Method(
        "ContentShuffle",
        "Content Shuffle",
        "colour and tiles",
        "Moves the picture's parts along smooth noise: colours and style stay, the content goes.",
        move_parts,
        options=(
            Option(
                "seed",
                0,
                "The same seed and size give the same movement, in every picture of a batch.",
                0,
                0xFFFFFFFFFFFFFFFF,
                1,
            ),
        ),
        aliases=("ShufflePreprocessor",),
    ),
)
