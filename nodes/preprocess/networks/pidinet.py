"""PiDiNet: soft edges of pixel differences, and scribbles made of them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..controlnet_aux import network_class
from ..method import Method, NetworkSpec, Paths
from . import annotators
from .checkpoints import State, make_filled
from .soft_edges import SAFE, draw_scribbles, draw_soft_edges

_VARIANT = "carv4"

_BLOCKS = (("block1", 3), ("block2", 4), ("block3", 4), ("block4", 4))

_WIDTH, _DILATION = 60, 24
"""Of the published network "table5_pidinet"."""

# What each difference convolution subtracts, in the order of a flattened 3x3 kernel, and where
# its taps lie in a 5x5 kernel: Su et al., "Pixel Difference Networks" (ICCV 2021), and the
# authors' https://github.com/hellozhuo/pidinet.
_NEXT_ON_THE_RING = (3, 0, 1, 6, 4, 2, 7, 8, 5)
_OUTER_RING = (0, 2, 4, 10, 14, 20, 22, 24)
_INNER_RING = (6, 7, 8, 11, 13, 16, 17, 18)


class LastMap(nn.Module):
    """fp32 edges [N, 1, H, W] of RGB pictures [N, 3, H, W] of 0 to 1; the network takes BGR."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        edges: Tensor = self.network(images.flip(1))[-1]
        return edges.float()


def _central(weight: Tensor) -> Tensor:
    plain = weight.clone()
    plain[:, :, 1, 1] -= weight.sum((2, 3))
    return plain


def _angular(weight: Tensor) -> Tensor:
    flat = weight.flatten(2)
    return (flat - flat[:, :, _NEXT_ON_THE_RING]).view_as(weight)


def _radial(weight: Tensor) -> Tensor:
    ring = weight.flatten(2)[:, :, 1:]
    plain = weight.new_zeros(*weight.shape[:2], 25)
    plain[:, :, _OUTER_RING] = ring
    plain[:, :, _INNER_RING] = -ring
    return plain.view(*weight.shape[:2], 5, 5)


_PLAIN = {"cv": torch.clone, "cd": _central, "ad": _angular, "rd": _radial}
"""By the package's names of operators: kernels that do the same in a plain convolution."""


def _layers() -> dict[str, str]:
    """The operator of each layer by the name of its weights."""
    operators: Mapping[str, str] = network_class("controlnet_aux.pidi.model:nets")[_VARIANT]
    names = ["init_block.weight"]
    for block, count in _BLOCKS:
        names += [f"{block}_{index}.conv1.weight" for index in range(1, count + 1)]
    return {name: operators[f"layer{index}"] for index, name in enumerate(names)}


def plain_weights(state: State) -> State:
    """The weights of the published network as those of one with plain convolutions only.

    Raises `KeyError` where `state` is another network's.
    """
    kernels = {name: _PLAIN[kind](state[name].float()) for name, kind in _layers().items()}
    return {**state, **kernels}


def _network() -> nn.Module:
    made: nn.Module = network_class("controlnet_aux.pidi.model:PiDiNet")(
        _WIDTH, list(_layers().values()), dil=_DILATION, sa=True, convert=True
    )
    return made


def load(paths: Paths) -> nn.Module:
    """PiDiNet with the weights in `paths`, its convolutions made plain."""
    return LastMap(make_filled(_network, paths[annotators.PIDINET.name], plain_weights)).eval()


_NETWORKS = {"": NetworkSpec((annotators.PIDINET,), load)}

METHODS = (
    Method(
        name="PiDiNet",
        title="PiDiNet Soft Edges",
        group="lines",
        description="Soft edges by PiDiNet: smoother and with less detail than HED's. Its "
        "weights are for research only.",
        make_hint=draw_soft_edges,
        options=(SAFE,),
        networks=_NETWORKS,
        multiple_of=64,
        aliases=("PiDiNetPreprocessor", "softedge_pidinet"),
    ),
    Method(
        name="ScribblePiDiNet",
        title="Scribble PiDiNet",
        group="lines",
        description="Thick black and white scribbles along the edges that PiDiNet finds. Its "
        "weights are for research only.",
        make_hint=draw_scribbles,
        options=(SAFE,),
        networks=_NETWORKS,
        multiple_of=64,
        aliases=("Scribble_PiDiNet_Preprocessor", "scribble_pidinet"),
    ),
)
