"""Preprocessors with optimised networks."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ...xpu_runtime import managed_model
from ...xpu_runtime.optimizing import Wishes, networks
from ...xpu_runtime.placement import copied
from ...xpu_runtime.workers import Place
from ..inference import missing_ops
from ..inference.precision import test_picture
from . import loaded
from .geometry import geometry
from .loaded import Loaded
from .method import Batch
from .preprocessor import Preprocessor, defaults, holding

_LARGE = 384
"""Side of the larger test picture: networks of preprocessors see whole pictures."""


def optimized(preprocessor: Preprocessor, wishes: Wishes) -> tuple[Preprocessor, str]:
    """The same preprocessor with an optimised network of its own for its default options.

    Raises what finding, loading and the network raise, and what an interrupt raises.
    """
    method, options = preprocessor.method, defaults(preprocessor.method)
    if isinstance(preprocessor.device, Place):
        return preprocessor, f"{method.title}. {networks.ON_A_WORKER}"
    given = holding(preprocessor).network
    if given is None:
        return preprocessor, f"{method.title} has no network: nothing applies."
    loaded.settle(given, method, options)
    mine = _copy_of(given)

    def run(network: nn.Module, side: int) -> Tensor:
        size = geometry(side, side, 0, method.multiple_of).padded
        picture = test_picture(3, size).to(mine.device)
        said: list[Tensor]
        with loaded.recorded(network) as said:
            batch = Batch(picture, 0, picture[:, :1])
            missing_ops.complete(mine.device, lambda: method.run(network, batch, options))
        return torch.cat([one.flatten() for one in said])

    with torch.inference_mode(), managed_model.resident(mine.patcher, 0):
        sides = (networks.SIDES[0], _LARGE)
        report = networks.optimize(mine.module, mine.device, wishes, run, sides)
    return replace(preprocessor, network=mine, own=True), f"{method.title}. {report.text}"


def _copy_of(given: Loaded) -> Loaded:
    module = copied(given.module)
    patcher = managed_model.managed(module, given.device)
    twin, costs = given.twin, dict(given.costs)
    mine = Loaded(module, patcher, given.network, given.request, given.identity, given.size)
    mine.dtype, mine.twin, mine.costs = given.dtype, twin, costs
    return mine
