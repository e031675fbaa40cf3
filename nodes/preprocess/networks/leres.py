"""LeReS: relative depth by a ResNeXt-101. `leres_boost` has what its boosted variant adds."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ....inference.weight_files import load_state_dict
from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from . import annotators, leres_boost
from .checkpoints import fill, make_empty
from .depth_maps import normalised, stretched

_MODEL = "controlnet_aux.leres.leres.multi_depth_model_woauxi:RelDepthModel"

BOOSTED = "enable"

DEPTH = WeightFile(
    annotators.REPOSITORY,
    "res101.pth",
    annotators.REVISION,
    sha256="1d696b2ef3e8336b057d0c15bc82d2fecef821bfebe5ef9d7671a5ec5dde520b",
    a1111_folder="leres",
)

MERGE = WeightFile(
    annotators.REPOSITORY,
    "latest_net_G.pth",
    annotators.REVISION,
    sha256="50ec735d74ed6499562d898f41b49343e521808b8dae589aa3c2f5c9ac9f7462",
    a1111_folder="leres",
)


class Leres(nn.Module):
    """Pictures [N, 3, H, W], sides multiples of 32, to depths [N, 1, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network_class(_MODEL)(backbone="resnext101")

    def forward(self, pictures: Tensor) -> Tensor:
        """The greater, the farther."""
        return self.network.depth_model(pictures)


def load(paths: Paths) -> nn.Module:
    path = paths[DEPTH.name]
    network = make_empty(Leres)
    state = load_state_dict(path, within="depth_model")
    return fill(network, {f"network.{name}": value for name, value in state.items()}, path)


def load_boosted(paths: Paths) -> nn.Module:
    """The network and the one that merges its depths, from their files."""
    path = paths[MERGE.name]
    merge = fill(make_empty(leres_boost.merging), load_state_dict(path), path)
    return leres_boost.Boosted(load(paths), merge).eval()


def estimate_depth(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Nearness from 0 to 1; what is too near or too far is white and black.

    The network was trained with blue first and pixels from 0 to 255, less ImageNet's mean of
    pixels from 0 to 1: a slip of the original that its weights know.
    """
    assert network is not None
    seen = normalised(batch.images.flip(1) * 255)
    if options["boost"] == BOOSTED:
        pairs = zip(batch.images.split(1), seen.split(1), strict=True)
        found = torch.cat(
            [leres_boost.depths(network, *pair, batch.check_interrupted) for pair in pairs]
        )
    else:
        found = network(seen)
    depths = stretched(found)
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
        description="Relative depth, near is bright; with `boost` in much detail (LeReS++).",
        make_hint=estimate_depth,
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
            Option(
                "boost",
                "disable",
                "Look closer at the picture and at parts of it, and merge what is found with a "
                "second network (LeReS++): more detail, at many times the time.",
                choices=("disable", BOOSTED),
            ),
        ),
        networks={
            "disable": NetworkSpec((DEPTH,), load),
            BOOSTED: NetworkSpec((DEPTH, MERGE), load_boosted),
        },
        network_option="boost",
        multiple_of=32,
        aliases=("LeReS-DepthMapPreprocessor", "LeReS Depth Map"),
    ),
)
