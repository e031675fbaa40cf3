"""Networks of upscale models and preprocessors, made faster where that was measured."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..inference import missing_ops
from ..inference.network import Network
from ..inference.precision import test_picture
from ..xpu_runtime.optimizing import OptimizeSettings, networks
from ..xpu_runtime.optimizing.networks import Sample
from ..xpu_runtime.placement import copied
from .preprocess.geometry import geometry
from .preprocess.method import Batch
from .preprocess.picture_task import HintCall
from .preprocess.preprocessor import (
    Preprocessor,
    chunk_of,
    costs_of,
    default_options,
    hold_network,
    recorded_outputs,
)
from .upscale import placing
from .upscale.masks import share_masks
from .upscale.model import needs_of, network_of, test_inputs, with_module
from .upscale.tiles import Needs

if TYPE_CHECKING:
    from ..xpu_runtime.host.types import Descriptor

_SAMPLES = (Sample(64), Sample(384))
"""Networks of preprocessors see whole pictures."""

_FRAMES = Sample(512, 16)
"""Of a video, of which a GPU is given as many at once as fit."""


def optimize_upscaler(
    descriptor: "Descriptor", wishes: OptimizeSettings
) -> "tuple[Descriptor, str]":
    """A descriptor of the same model whose network runs faster where that was measured; a report.

    Raises what loading and the network raise, and what an interrupt raises.
    """
    name = descriptor.architecture.name
    location, handle = placing.locate(descriptor)
    held = location.reach(handle)
    if held is None:
        return descriptor, f"{name}. {networks.ON_A_WORKER}"
    own: Descriptor = held.value
    fresh = placing.place(own, location, None)
    network = network_of(fresh)
    needs = needs_of(own)

    def call(module: nn.Module, sample: Sample) -> Tensor:
        inputs = test_inputs(own, _fitting(sample.side, needs))
        with share_masks(module):
            return with_module(fresh, module)(
                *(one.to(network.device, network.dtype) for one in inputs)
            )

    with torch.inference_mode():
        network.settle()
        with network.on_device():
            report = networks.optimize(fresh.model, network.device, wishes, call)
    return fresh, f"{name}. {report.text}"


def _fitting(side: int, needs: Needs) -> tuple[int, int]:
    """A square that the model takes, of about this side."""
    return Needs(needs.minimum, max(1, needs.multiple_of), True).padded(side, side)


def optimize_preprocessor(
    preprocessor: Preprocessor, wishes: OptimizeSettings
) -> tuple[Preprocessor, str]:
    """The same preprocessor with an optimised network of its own for its default options.

    Raises what finding, loading and the network raise, and what an interrupt raises.
    """
    method, options = preprocessor.method, default_options(preprocessor.method)
    location = preprocessor.location
    held = location.reach(preprocessor.network or hold_network(preprocessor).network)
    if held is None:
        return preprocessor, f"{method.title}. {networks.ON_A_WORKER}"
    given: Network | None = held.value
    if given is None:
        return preprocessor, f"{method.title} has no network: nothing applies."
    given.settle()
    own = given.copy_with(copied(given.module))

    def call(module: nn.Module, sample: Sample) -> Tensor:
        size = geometry(sample.side, sample.side, 0, method.multiple_of).padded
        pictures = test_picture(3, size).to(own.device).repeat(sample.count, 1, 1, 1)
        batch = Batch(pictures, 0, pictures[:, :1])

        def outputs() -> list[Tensor]:
            with recorded_outputs(module) as found:
                method.make_hint(module, batch, options)
            return found

        return torch.cat([one.flatten() for one in missing_ops.complete(own.device, outputs)])

    with torch.inference_mode(), own.on_device():
        samples = (*_SAMPLES, *_frames(preprocessor, own, options))
        report = networks.optimize(own.module, own.device, wishes, call, samples)
    kept = location.hold(lambda: own)
    return replace(preprocessor, network=kept), f"{method.title}. {report.text}"


def _frames(
    preprocessor: Preprocessor, network: Network, options: Mapping[str, Any]
) -> tuple[Sample, ...]:
    """Half as many frames as would go at once: a copy of the network is beside it."""
    method, side = preprocessor.method, _FRAMES.side
    sizes = geometry(side, side, 0, method.multiple_of)
    call = HintCall(method, network.module, options, sizes, network.device)
    images = torch.empty(_FRAMES.count, side, side, 3, device="meta")
    costs = costs_of(call, network, images, None)
    if costs is None:
        return ()
    count = chunk_of(_FRAMES.count, costs, network.budget.limits(), sizes) // 2
    return (replace(_FRAMES, count=count),) if count > 1 else ()
