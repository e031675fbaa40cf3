"""Realistic line art: lines as drawn from a photo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from . import annotators
from .checkpoints import make_filled
from .fast_layers import with_channels_last, with_quick_norms

_BLOCKS = 3
"""Residual blocks of the published networks."""


def network_of(path: Path) -> nn.Module:
    """The generator with the weights in `path`: lines are 0, paper is 1."""
    make = network_class("controlnet_aux.lineart:Generator")
    return with_channels_last(with_quick_norms(make_filled(lambda: make(3, 1, _BLOCKS), path)))


def _network(file: WeightFile) -> NetworkSpec:
    def load(paths: Paths) -> nn.Module:
        return network_of(paths[file.name])

    return NetworkSpec((file,), load)


def draw_lines(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """White lines on black."""
    assert network is not None
    return Hint(1 - network(batch.images))


METHODS = (
    Method(
        name="Lineart",
        title="Realistic Lineart",
        group="lines",
        description="Lines as an artist draws them from a photo (Informative Drawings).",
        make_hint=draw_lines,
        options=(
            Option(
                "coarse",
                "disable",
                "Use the network that draws fewer and rougher lines.",
                choices=("disable", "enable"),
            ),
        ),
        networks={
            "disable": _network(annotators.LINEART),
            "enable": _network(annotators.LINEART_COARSE),
        },
        network_option="coarse",
        multiple_of=64,
        aliases=("LineArtPreprocessor", "lineart_realistic", "lineart_coarse"),
    ),
)
