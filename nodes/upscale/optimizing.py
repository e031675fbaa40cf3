"""Upscale models with optimised networks."""

from typing import Any

import torch
from torch import Tensor, nn

from ...inference.precision import test_picture
from ...xpu_runtime.managed_model import resident
from ...xpu_runtime.optimizing import Wishes, networks
from . import elsewhere, upscaler
from .masks import kept
from .tiles import Needs


def optimized(descriptor: Any, wishes: Wishes) -> tuple[Any, str]:
    """A descriptor of the same model whose network runs faster where that was measured; a report.

    Raises what loading and the network raise, and what an interrupt raises.
    """
    if elsewhere.own(descriptor) is not descriptor:
        return descriptor, f"{descriptor.architecture.name}. {networks.ON_A_WORKER}"
    device = upscaler.upscaler_of(descriptor).device
    fresh = upscaler.placed(descriptor, device, None)
    known = upscaler.upscaler_of(fresh)
    channels, needs = descriptor.input_channels, upscaler.needs_of(descriptor)

    def run(network: nn.Module, sample: networks.Sample) -> Tensor:
        picture = test_picture(channels, _fitting(sample.side, needs)).to(device, known.dtype)
        inputs = [picture]
        if descriptor.purpose == "Inpainting":
            inputs.append((picture[:, :1] > 0.5).to(picture.dtype))
        with kept(network):
            result = upscaler.with_module(fresh, network)(*inputs)
        assert isinstance(result, Tensor)
        return result

    with torch.inference_mode():
        upscaler.settle_dtype(fresh, known)
        with resident(known.patcher, 0):
            report = networks.optimize(fresh.model, device, wishes, run)
    return fresh, f"{descriptor.architecture.name}. {report.text}"


def _fitting(side: int, needs: Needs) -> tuple[int, int]:
    """A square that the model takes, of about this side."""
    multiple = max(1, needs.multiple_of)
    side = max(side, needs.minimum)
    return (-(-side // multiple) * multiple,) * 2
