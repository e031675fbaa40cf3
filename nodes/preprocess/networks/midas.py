"""MiDaS (DPT-Hybrid): depth, and normals from its slopes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....inference.weight_files import load_state_dict
from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from . import annotators
from .checkpoints import fill, make_empty
from .depth_maps import stretched

_DPT = "controlnet_aux.midas.midas.dpt_depth:DPTDepthModel"
_ACTIVATIONS = "controlnet_aux.midas.midas.vit:activations"


class Midas(nn.Module):
    """Pictures [N, 3, H, W] from -1 to 1, sides multiples of 32, to inverse depths [N, 1, H, W].

    The package's network hands its backbone's results on through a dict of its module: copies of
    the network would read another's, and the last ones would never be freed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = network_class(_DPT)(backbone="vitb_rn50_384", non_negative=True)

    def forward(self, pictures: Tensor) -> Tensor:
        """The greater, the nearer."""
        kept = network_class(_ACTIVATIONS)
        self.network.pretrained.activations = kept
        try:
            return self.network(pictures)[:, None]
        finally:
            kept.clear()


def load(paths: Paths) -> nn.Module:
    path = next(iter(paths.values()))
    network = make_empty(Midas)
    state = load_state_dict(path)
    return fill(network, {f"network.{name}": value for name, value in state.items()}, path)


def _depths(network: nn.Module | None, batch: Batch) -> Tensor:
    assert network is not None
    return network(batch.images * 2 - 1)


def estimate_depth(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Inverse depths, each picture's from 0 to 1."""
    return Hint(stretched(_depths(network, batch)))


def estimate_normals(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Normals from the depth's slopes: blue is right, green is down, red is towards the viewer.

    The order of the channels is controlnet_aux's, which ControlNets were trained with.
    """
    depths = _depths(network, batch)
    slopes = _slopes(depths)
    background = stretched(depths) < options["bg_threshold"]
    slopes = slopes.masked_fill(background, 0)
    upwards = torch.full_like(depths, options["a"])
    normals = torch.cat((upwards, slopes[:, 1:], slopes[:, :1]), 1)
    normals = normals / normals.norm(dim=1, keepdim=True)
    return Hint(((normals + 1) / 2).clamp(0, 1))


def _slopes(depths: Tensor) -> Tensor:
    """Sobel's derivatives [N, 2, H, W] to the right and downwards, mirrored at the edges."""
    across = torch.tensor([-1.0, 0, 1], device=depths.device, dtype=depths.dtype)
    smooth = torch.tensor([1.0, 2, 1], device=depths.device, dtype=depths.dtype)
    right = smooth[:, None] * across
    kernels = torch.stack((right, right.T))[:, None]
    return functional.conv2d(functional.pad(depths, (1, 1, 1, 1), mode="reflect"), kernels)


NETWORK = NetworkSpec(
    (
        WeightFile(
            annotators.REPOSITORY,
            "dpt_hybrid-midas-501f0c75.pt",
            annotators.REVISION,
            sha256="501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853",
            a1111_folder="midas",
            licence="MIT",
        ),
    ),
    load,
)

METHODS = (
    Method(
        name="MidasDepth",
        title="MiDaS Depth",
        group="depth and normals",
        description="Relative depth, near is bright.",
        make_hint=estimate_depth,
        networks={"": NETWORK},
        multiple_of=32,
        aliases=("MiDaS-DepthMapPreprocessor", "MiDaS Depth Map"),
    ),
    Method(
        name="MidasNormal",
        title="MiDaS Normals",
        group="depth and normals",
        description="Surface directions, computed from the slopes of MiDaS's depth.",
        make_hint=estimate_normals,
        options=(
            Option(
                "a",
                6.283185307179586,
                "How flat everything is: the greater, the less slopes show.",
                least=0,
                most=15.707963267948966,
                step=0.01,
            ),
            Option(
                "bg_threshold",
                0.1,
                "Where the depth, from 0 to 1, is below this, it counts as flat background.",
                least=0,
                most=1,
                step=0.01,
            ),
        ),
        networks={"": NETWORK},
        multiple_of=32,
        aliases=("MiDaS-NormalMapPreprocessor", "MiDaS Normal Map"),
    ),
)
