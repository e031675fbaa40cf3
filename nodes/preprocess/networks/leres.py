"""LeReS: relative depth by a ResNeXt-101. Its boosted variant (LeReS++) is not among these."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...inference.weight_files import load_state_dict
from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, Network, Option, Paths, WeightFile
from . import annotators
from .depth_maps import normalised, stretched
from .filling import fill, unfilled

_MODEL = "controlnet_aux.leres.leres.multi_depth_model_woauxi:RelDepthModel"


class Leres(nn.Module):
    """Pictures [N, 3, H, W], sides multiples of 32, to depths [N, 1, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network_class(_MODEL)(backbone="resnext101")

    def forward(self, pictures: Tensor) -> Tensor:
        """The greater, the farther."""
        return self.network.depth_model(pictures)


def load(paths: Paths) -> nn.Module:
    """The network from its file."""
    path = next(iter(paths.values()))
    network = unfilled(Leres)
    state = load_state_dict(path, within="depth_model")
    return fill(network, {f"network.{name}": value for name, value in state.items()}, path)


def run(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Nearness from 0 to 1; what is too near or too far is white and black.

    The network was trained with blue first and pixels from 0 to 255, less ImageNet's mean of
    pixels from 0 to 1: a slip of the original that its weights know.
    """
    assert network is not None
    depths = stretched(network(normalised(batch.images.flip(1) * 255)))
    depths = _above(depths, options["rm_nearest"])
    return Hint(_above(1 - depths, options["rm_background"]))


def _above(maps: Tensor, percent: float) -> Tensor:
    """`maps`, and 0 where they are not above the threshold."""
    return maps if percent == 0 else torch.where(maps > percent / 100, maps, 0)


METHODS = (
    Method(
        name="LeresDepth",
        title="LeReS Depth",
        group="depth and normals",
        description="Relative depth, near is bright.",
        run=run,
        options=(
            Option(
                "rm_nearest",
                0.0,
                "What is nearer than this, in percent of the depth, counts as nearest.",
                least=0,
                most=100,
                step=0.1,
            ),
            Option(
                "rm_background",
                0.0,
                "What is farther than this, in percent of the depth from behind, becomes black.",
                least=0,
                most=100,
                step=0.1,
            ),
        ),
        networks={
            "": Network(
                (
                    WeightFile(
                        annotators.REPOSITORY,
                        "res101.pth",
                        annotators.REVISION,
                        sha256="1d696b2ef3e8336b057d0c15bc82d2fecef821bfebe5ef9d7671a5ec5dde520b",
                        a1111_folder="leres",
                    ),
                ),
                load,
            )
        },
        multiple_of=32,
        aliases=("LeReS-DepthMapPreprocessor", "LeReS Depth Map"),
    ),
)
