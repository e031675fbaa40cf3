"""Preprocessors with optimised networks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...inference import missing_ops
from ...inference.limits import limits_of
from ...inference.precision import test_picture
from ...xpu_runtime import managed_model
from ...xpu_runtime.optimizing import Wishes, networks
from ...xpu_runtime.optimizing.networks import Sample
from ...xpu_runtime.placement import There, copied
from . import loaded
from .geometry import geometry
from .loaded import Loaded
from .method import Batch, Method
from .preprocessor import Preprocessor, chunk_of, costs_of, defaults, holding
from .running import Job

_SAMPLES = (Sample(64), Sample(384))
"""Networks of preprocessors see whole pictures."""

_FRAMES = Sample(512, 16)
"""Of a video, of which a GPU is given as many at once as fit."""


def optimized(preprocessor: Preprocessor, wishes: Wishes) -> tuple[Preprocessor, str]:
    """The same preprocessor with an optimised network of its own for its default options.

    Raises what finding, loading and the network raise, and what an interrupt raises.
    """
    method, options = preprocessor.method, defaults(preprocessor.method)
    if isinstance(preprocessor.device, There):
        return preprocessor, f"{method.title}. {networks.ON_A_WORKER}"
    given = holding(preprocessor).network
    if given is None:
        return preprocessor, f"{method.title} has no network: nothing applies."
    loaded.settle(given, method, options)
    mine = _copy_of(given)

    def run(network: nn.Module, sample: Sample) -> Tensor:
        size = geometry(sample.side, sample.side, 0, method.multiple_of).padded
        pictures = test_picture(3, size).to(mine.device).repeat(sample.count, 1, 1, 1)
        said: list[Tensor]
        with loaded.recorded(network) as said:
            batch = Batch(pictures, 0, pictures[:, :1])
            missing_ops.complete(mine.device, lambda: method.make_hint(network, batch, options))
        return torch.cat([one.flatten() for one in said])

    with torch.inference_mode(), managed_model.resident(mine.patcher, 0):
        samples = (*_SAMPLES, *_frames(mine, method, options))
        report = networks.optimize(mine.module, mine.device, wishes, run, samples)
    return replace(preprocessor, network=mine, own=True), f"{method.title}. {report.text}"


def _frames(mine: Loaded, method: Method, options: Mapping[str, Any]) -> tuple[Sample, ...]:
    """Half as many frames as would go at once: a copy of the network is beside it."""
    side = _FRAMES.side
    sizes = geometry(side, side, 0, method.multiple_of)
    job = Job(method, mine.module, options, sizes, mine.device)
    images = torch.empty(_FRAMES.count, side, side, 3, device="meta")
    costs = costs_of(job, mine, images, None)
    if costs is None:
        return ()
    count = chunk_of(_FRAMES.count, costs, limits_of(mine.device), sizes) // 2
    return (replace(_FRAMES, count=count),) if count > 1 else ()


def _copy_of(given: Loaded) -> Loaded:
    module = copied(given.module)
    patcher = managed_model.managed(module, given.device)
    twin, costs = given.twin, dict(given.costs)
    mine = Loaded(module, patcher, given.network, given.request, given.identity, given.size)
    mine.dtype, mine.twin, mine.costs = given.dtype, twin, costs
    return mine
