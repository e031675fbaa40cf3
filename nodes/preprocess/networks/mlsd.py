"""M-LSD: straight lines."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths
from . import annotators
from .checkpoints import make_filled

if TYPE_CHECKING:
    import numpy

_MOST_LINES = 200
"""Of a picture; the reference takes as many."""

_SCALE = 2
"""The network's maps have half of the picture's sides."""

_FOURTH_CHANNEL = 1 / 127.5 - 1
"""Beside the colours, the network sees a picture of ones of 255."""


class LineMaps(nn.Module):
    """fp32 maps [N, 5, H / 2, W / 2] of pictures [N, 3, H, W] of 0 to 1.

    How much each pixel is a line's centre, 0 to 1, then the way from there to the line's two
    ends, in pixels of the maps: x and y of the one, x and y of the other.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        seen = functional.pad(images * 2 - 1, (0, 0, 0, 0, 0, 1), value=_FOURTH_CHANNEL)
        maps = self.network(seen)[:, :5].float()
        return torch.cat((maps[:, :1].sigmoid(), maps[:, 1:]), 1)


def load(paths: Paths) -> nn.Module:
    make = network_class("controlnet_aux.mlsd.models.mbv2_mlsd_large:MobileV2_MLSD_Large")
    return LineMaps(make_filled(make, paths[annotators.MLSD.name])).eval()


def candidates(maps: Tensor) -> Tensor:
    """The likeliest lines of each picture, fp32 [N, 7, up to 200]: score, x, y, both ways."""
    heat = maps[:, :1]
    peaks = torch.where(functional.max_pool2d(heat, 3, 1, 1) == heat, heat, 0)
    frames, _, height, width = maps.shape
    scores, places = peaks.flatten(1).topk(min(_MOST_LINES, height * width))
    ways = maps[:, 1:].flatten(2).gather(2, places[:, None].expand(frames, 4, -1))
    where = torch.stack((places % width, places // width), 1)
    return torch.cat((scores[:, None], where.float(), ways), 1)


def segments(found: Tensor, least_score: float, least_length: float) -> Tensor:
    """Ends x, y, x, y of lines, int32 [count, 4], of one picture's [7, count] on the CPU."""
    score, ways = found[0], found[3:]
    length = (ways[:2] - ways[2:]).square().sum(0).sqrt()
    chosen = (score > least_score) & (length > least_length)
    # The reference adds in fp64 and cuts the fraction off.
    ends = (found[1:3].double().repeat(2, 1) + ways.double()) * _SCALE
    return ends.trunc().int()[:, chosen].T


def drawn(lines: Tensor, picture: "numpy.ndarray") -> None:
    """Draw lines, int32 [count, 4], into a numpy array uint8 [H, W]."""
    import cv2

    cv2.polylines(picture, list(lines.reshape(-1, 2, 2).numpy()), False, 255)


def draw_straight_lines(
    network: nn.Module | None, batch: Batch, options: Mapping[str, Any]
) -> Hint:
    """White lines, one pixel wide, on black; drawn on the CPU, where the hint stays."""
    assert network is not None
    found = candidates(network(batch.images)).cpu()
    frames, _, height, width = batch.images.shape
    pictures = torch.zeros(frames, height, width, dtype=torch.uint8, device="cpu")
    thresholds = float(options["score_threshold"]), float(options["dist_threshold"])
    for one, picture in zip(found, pictures.numpy(), strict=True):
        drawn(segments(one, *thresholds), picture)
    return Hint(pictures[:, None].float() / 255)


METHODS = (
    Method(
        name="MLSD",
        title="M-LSD Straight Lines",
        group="lines",
        description="Straight lines only: for buildings, rooms and furniture (M-LSD).",
        make_hint=draw_straight_lines,
        options=(
            Option(
                "score_threshold",
                0.1,
                "How sure the network must be of a line: higher means fewer lines.",
                least=0.01,
                most=2.0,
                step=0.01,
            ),
            Option(
                "dist_threshold",
                0.1,
                "How long a line must be, in pixels of half the resolution.",
                least=0.01,
                most=20.0,
                step=0.01,
            ),
        ),
        networks={"": NetworkSpec((annotators.MLSD,), load)},
        multiple_of=64,
        aliases=("M-LSDPreprocessor", "mlsd"),
    ),
)
