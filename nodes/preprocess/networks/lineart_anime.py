"""Anime line art: lines of drawings."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Paths
from . import annotators
from .checkpoints import make_filled
from .fast_layers import with_quick_norms

MULTIPLE = 256
"""The network halves its pictures eight times."""


class Sketch(nn.Module):
    """fp32 lines [N, 1, H, W], 0 on paper of 1, of pictures [N, 3, H, W] of 0 to 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """See the class. Sides that do not fit the network are continued and cut off again."""
        height, width = images.shape[-2:]
        beyond = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        if any(beyond):
            images = functional.pad(images, beyond, mode="replicate")
        drawn: Tensor = self.network(images * 2 - 1)
        return (drawn[..., :height, :width].float() + 1) / 2


def network_of(path: Path) -> nn.Module:
    """The U-Net with the weights in `path`."""
    make = network_class("controlnet_aux.lineart_anime:UnetGenerator")
    norm = partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    network = make_filled(lambda: make(3, 1, 8, 64, norm_layer=norm), path)
    return Sketch(with_quick_norms(network)).eval()


def load(paths: Paths) -> nn.Module:
    """The U-Net with the weights in `paths`."""
    return network_of(paths[annotators.LINEART_ANIME.name])


def draw_lines(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """White lines on black."""
    assert network is not None
    return Hint(1 - network(batch.images))


METHODS = (
    Method(
        name="LineartAnime",
        title="Anime Lineart",
        group="lines",
        description="Lines of anime and other drawings (Anime2Sketch).",
        make_hint=draw_lines,
        networks={
            "": NetworkSpec(
                (annotators.LINEART_ANIME,),
                load,
                channels_last=False,
                channels_last_on_cpu=False,  # transposed convolutions are slow so
            )
        },
        multiple_of=MULTIPLE,
        aliases=("AnimeLineArtPreprocessor", "lineart_anime"),
    ),
)
