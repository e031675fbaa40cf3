"""Inpaint: the picture with what is masked marked as missing, for inpainting ControlNets.

https://github.com/Fannovel16/comfyui_controlnet_aux (e8b689a).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..method import Batch, Hint, Method, Option

_MISSING = -1.0
"""What ControlNet 1.1's inpaint model takes for a missing pixel; it is no colour."""


def mark_masked(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """The picture, with -1 or black where the mask is above 0.5."""
    if batch.masks is None:
        raise ValueError("Inpaint needs a mask: connect one that marks what is to be painted.")
    value = 0.0 if options["black_pixel_for_xinsir_cn"] else _MISSING
    return Hint(torch.where(batch.masks > 0.5, value, batch.images))


METHODS: tuple[Method, ...] = (
    Method(
        "Inpaint",
        "Inpaint",
        "colour and tiles",
        "Marks the masked parts of a picture as missing, for inpainting ControlNets. It keeps the "
        "picture's size.",
        mark_masked,
        options=(
            Option(
                "black_pixel_for_xinsir_cn",
                False,
                "Black marks what is missing, as xinsir's ControlNets have it; otherwise -1, which "
                "is no colour and cannot be saved in a picture.",
            ),
        ),
        takes_mask=True,
        keeps_size=True,
        aliases=("InpaintPreprocessor",),
    ),
)
