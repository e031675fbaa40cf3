"""Costs of networks that cannot be run dry: measured on a small picture instead."""

from typing import Any

import torch

from ...inference.dry_run import Cost, cost_of
from ...xpu_runtime.log import LOGGER
from . import upscaler
from .channels import Pass, passes
from .plan import Costs
from .running import step
from .upscaler import Upscaler

_SIDE = 128

_NOT_DRY: set[tuple[str, bool]] = set()
"""(hash of the weights, whether several pictures at once) of networks whose dry run failed."""


def costs_of(descriptor: Any, known: Upscaler, picture_channels: int) -> Costs:
    """What calls for pictures of so many channels take; the model is loaded when it is asked.

    Some networks look at their numbers to decide what to compute (Tensor.item, nonzero), so
    that they cannot be called without any. What they take is measured once, at a small size,
    and counts as growing with the pixels.
    """
    dry = upscaler.costs_of(descriptor, known, picture_channels)
    way = passes(picture_channels, descriptor.input_channels, descriptor.output_channels)[0]

    def cost(height: int, width: int, batch: int, several: bool) -> Cost:
        if (known.digest, batch > 1) not in _NOT_DRY:
            try:
                return dry(height, width, batch, several)
            except (RuntimeError, ValueError) as error:
                LOGGER.info(
                    "Upscaling: %s cannot be run dry (%s); what it takes is measured.",
                    descriptor.architecture.name,
                    str(error).splitlines()[0],
                )
                _NOT_DRY.add((known.digest, batch > 1))
        pixels = height * width * batch
        found = _measured(descriptor, known, way).scaled(pixels / _SIDE**2)
        job = upscaler.job_of(descriptor, known)
        return upscaler.with_transfers(found, job, way, pixels, several)

    return cost


def _measured(descriptor: Any, known: Upscaler, way: Pass) -> Cost:
    """What a picture of `_SIDE` squared takes, from a real call, and remembered."""
    key = ("measured", way)
    if key not in known.costs:
        height, width = upscaler.needs_of(descriptor).padded(_SIDE, _SIDE)
        pixels = torch.rand(1, height, width, len(way.sources), device=known.device)
        job = upscaler.job_of(descriptor, known)
        found = cost_of(lambda image: step(job, way, image), pixels)
        known.costs[key] = found.scaled(_SIDE**2 / (height * width))
    return known.costs[key]
