"""Boosted LeReS ("LeReS++"): depths at several sizes and of parts, merged by a second network.

See `leres_patches`. The merging network is a U-Net that takes two estimates of the same place, one
true at large and one with detail, and gives one that is both.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..controlnet_aux import network_class
from . import resampling
from .depth_maps import stretched
from .leres_patches import FIELD, Gray, PatchPlan, plan

_NETWORKS = "controlnet_aux.leres.pix2pix.models.networks"

MERGED = 1024
"""The side of what the merging network takes and gives, in pixels."""

_HALVINGS = 10
_WIDTH = 64

_GRAY = (0.2989, 0.5870, 0.1140)

# How a part is blended into the whole: 1 within a margin of 15 %, softened; drawn at this length.
_PROFILE, _MARGIN = 3000, 0.15


class Boosted(nn.Module):
    """LeReS, and the network that merges its depths."""

    def __init__(self, depth: nn.Module, merge: nn.Module) -> None:
        super().__init__()
        self.depth = depth
        self.merge = merge

    def forward(self, seen: Tensor, part: str = "depth") -> Tensor:
        """ "depth": as LeReS. "merge": two depths from -1 to 1 [N, 2, H, W] to one [N, 1, H, W]."""
        found: Tensor = (self.merge if part == "merge" else self.depth)(seen)
        return found


def merging() -> nn.Module:
    """The merging network, with the names of its file."""
    norm = network_class(f"{_NETWORKS}:get_norm_layer")("none")
    made: nn.Module = network_class(f"{_NETWORKS}:UnetGenerator")(
        2, 1, _HALVINGS, _WIDTH, norm_layer=norm
    )
    return made


def depths(network: nn.Module, picture: Tensor, seen: Tensor, check: Callable[[], None]) -> Tensor:
    """[1, 1, H, W] of a picture [1, 3, H, W] of 0 to 1, which LeReS takes as `seen`.

    `check` is called before each look; what it raises ends the work.
    """
    place = plan(_gray(picture))
    size = (seen.shape[-2], seen.shape[-1])
    whole = _cubic(_looked(network, seen, place.side), place.size)
    if place.squares:
        seen = resampling.apply(seen, *_there_and_back(size, place))
        whole = _with_parts(network, seen, whole, place, check)
    return _cubic(whole, size)


def _with_parts(
    network: nn.Module, seen: Tensor, whole: Tensor, place: PatchPlan, check: Callable[[], None]
) -> Tensor:
    """`whole` [1, 1, H, W] with each square of the plan looked at again and laid over it."""
    result = whole.clone()
    for left, top, side in place.squares:
        check()
        part = (..., slice(top, top + side), slice(left, left + side))
        large = whole[part]
        height, width = large.shape[-2:]
        wanted = _cubic(large, (MERGED, MERGED))
        closer = _looked(network, seen[part], 2 * FIELD)
        line = _fitted(network(_pair(wanted, closer), "merge"), wanted)
        mask = _profile(height)[:, None] * _profile(width)
        result[part].lerp_(_cubic(line, (height, width)), mask.to(result))
    return result


def _looked(network: nn.Module, seen: Tensor, side: int) -> Tensor:
    """Depths [1, 1, MERGED, MERGED] of 0 to 1: once with all in the network's sight, and once
    with more detail, at squares of `side`."""
    size = (seen.shape[-2], seen.shape[-1])
    maps = []
    for one in (FIELD, side):
        square = functional.interpolate(seen, (one, one), mode="bilinear", align_corners=False)
        maps.append(_cubic(_cubic(network(square), size), (MERGED, MERGED)))
    return stretched(network(_pair(*maps), "merge"))


def _pair(large: Tensor, closer: Tensor) -> Tensor:
    return torch.cat((stretched(large), stretched(closer)), 1) * 2 - 1


def _fitted(values: Tensor, wanted: Tensor) -> Tensor:
    """`values` times a number plus another one, as near to `wanted` as that can be."""
    middle, centre = values.mean(), wanted.mean()
    values = values - middle
    spread = values.square().mean()
    slope = (values * (wanted - centre)).mean() / torch.where(spread > 0, spread, 1)
    return values * slope + centre


def _cubic(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return functional.interpolate(maps, size, mode="bicubic", align_corners=False)


def _gray(picture: Tensor) -> Gray:
    weights = torch.tensor(_GRAY, device=picture.device)[:, None, None]
    gray: Gray = (picture[0] * 255 * weights).sum(0).cpu().numpy()
    return gray


@lru_cache(8)
def _there_and_back(size: tuple[int, int], place: PatchPlan) -> tuple[Tensor, Tensor]:
    """The matrices of a picture that was enlarged, for the plan, and brought back."""
    rows, columns = (
        resampling.cubic(large, back) @ resampling.cubic(given, large)
        for given, large, back in zip(size, place.enlarged, place.size, strict=True)
    )
    return rows, columns


@lru_cache(64)
def _profile(length: int) -> Tensor:
    """fp32 [length]: how much of a part counts, from one side to the other."""
    box = torch.zeros(_PROFILE, dtype=torch.float64, device="cpu")
    first = int(_MARGIN * _PROFILE)
    box[first : _PROFILE - first] = 1
    sigma = _PROFILE // 16
    offsets = torch.arange(-2 * sigma, 2 * sigma + 1, dtype=torch.float64, device="cpu")
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (weights / weights.sum())[None, None]
    soft = functional.conv1d(box[None, None], kernel, padding=2 * sigma)
    return functional.interpolate(soft, length, mode="linear")[0, 0].float()
