"""OpenPose's second look: the joints of hands and the outlines of faces, all of a size together."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import resampling
from .body_parts import BodyPartBox, face_box, hand_boxes
from .skeletons import ON, Point, Points

_STRIDE = 8
_SIGMA = 3.0
_HAND_SIDES = (184, 368, 552, 736)
_HAND_MAP = 128
_HAND_BLUR = resampling.Blur(0.8, 3, edge_twice=False)
_HAND_JOINTS = 21
_FACE_SIDE = 384
_LEAST_HEAT = 0.05


@dataclass(frozen=True)
class Crop:
    """A part of one picture, and whose it is."""

    picture: int
    person: int
    name: str
    box: BodyPartBox


Parts = dict[tuple[int, int], dict[str, Points]]
"""By picture and person: "left_hand", "right_hand", "face"."""


def hands_and_faces(
    network: nn.Module,
    pictures: Tensor,
    crowd: Sequence[Sequence[Points]],
    options: Mapping[str, Any],
    budget: int,
) -> Parts:
    """The points of what the options ask for. No call looks at more pixels than `budget`, if it
    looks at several squares."""
    crops = _crops(crowd, pictures.shape[2], pictures.shape[3], options)
    parts: Parts = {}
    for find, chosen in (
        (_hands, [crop for crop in crops if crop.name != "face"]),
        (_faces, [crop for crop in crops if crop.name == "face"]),
    ):
        for crop, points in _found(find, network, pictures, chosen, budget):
            parts.setdefault((crop.picture, crop.person), {})[crop.name] = points
    return parts


def _crops(
    crowd: Sequence[Sequence[Points]], height: int, width: int, options: Mapping[str, Any]
) -> list[Crop]:
    crops = []
    for picture, found in enumerate(crowd):
        for person, points in enumerate(found):
            if options["detect_hand"] == ON:
                boxes = hand_boxes(points, height, width)
                crops += [Crop(picture, person, name, box) for name, box in boxes.items()]
            box = face_box(points, height, width) if options["detect_face"] == ON else None
            if box is not None:
                crops.append(Crop(picture, person, "face", box))
    return crops


Finder = Callable[[nn.Module, list[Tensor], int], list[list[Point]]]


def _found(
    find: Finder, network: nn.Module, pictures: Tensor, crops: Sequence[Crop], budget: int
) -> Iterator[tuple[Crop, Points]]:
    """The points of hands or faces. `budget`: pixels in one call."""
    height, width = pictures.shape[2:]
    cut = [crop.box.of(pictures[crop.picture]) for crop in crops]
    for crop, points in zip(crops, find(network, cut, budget), strict=True):
        if points:
            yield crop, tuple(crop.box.to_picture(point, height, width) for point in points)


def _hands(network: nn.Module, cut: list[Tensor], budget: int) -> list[list[Point]]:
    total: list[Tensor] = []
    for side in _HAND_SIDES:
        resized = functools.partial(_blurred_to, side)
        warmth = _in_parts(network, "hand", cut, resized, max(1, budget // side**2))
        enlarging, _ = resampling.enlarging(
            (side // _STRIDE,) * 2, (side, side), (_HAND_MAP, _HAND_MAP), _STRIDE
        )
        heat = [resampling.apply(one[:_HAND_JOINTS], enlarging, enlarging) for one in warmth]
        total = [a + b for a, b in zip(total, heat, strict=True)] if total else heat
    return [
        joints((one / len(_HAND_SIDES)).cpu().numpy(), tuple(source.shape[1:]))
        for one, source in zip(total, cut, strict=True)
    ]


def _blurred_to(side: int, one: Tensor) -> Tensor:
    matrices = resampling.resize(tuple(one.shape[1:]), (side, side))
    return resampling.apply(one, *map(_HAND_BLUR.before, matrices))


def joints(heat: np.ndarray, size: tuple[int, ...]) -> list[Point]:
    """The pixels of a hand's joints from heat maps [21, 128, 128]; (0, 0) where there is none.

    Of each map the warmest of the patches above a threshold counts.
    """
    from scipy import ndimage

    found: list[Point] = []
    for warmth in heat.astype(np.float64):
        smooth = ndimage.gaussian_filter(warmth, sigma=_SIGMA)
        patches, count = ndimage.label(smooth > _LEAST_HEAT, structure=np.ones((3, 3)))
        if not count:
            found.append((0, 0))
            continue
        best = int(np.argmax(ndimage.sum_labels(warmth, patches, np.arange(1, count + 1)))) + 1
        inside = np.where(patches == best, warmth, 0)
        y, x = np.unravel_index(inside.argmax(), inside.shape)
        found.append((int(x * size[1] / _HAND_MAP), int(y * size[0] / _HAND_MAP)))
    return found


def _faces(network: nn.Module, cut: list[Tensor], budget: int) -> list[list[Point]]:
    side = (_FACE_SIDE, _FACE_SIDE)

    def resized(one: Tensor) -> Tensor:
        return resampling.apply(one, *resampling.resize(tuple(one.shape[1:]), side))

    heat = _in_parts(network, "face", cut, resized, max(1, budget // _FACE_SIDE**2))
    return [warmest(one, tuple(source.shape[1:])) for one, source in zip(heat, cut, strict=True)]


def warmest(heat: Tensor, size: tuple[int, ...]) -> list[Point]:
    """The pixel of each map's greatest value, of the maps [C, h, w] that have one that counts."""
    full = nn.functional.interpolate(heat[None], size, mode="bilinear", align_corners=True)[0]
    value, place = full.flatten(1).max(1)
    kept = place[value > _LEAST_HEAT].cpu().tolist()
    return [(index % size[1], index // size[1]) for index in kept]


def _in_parts(
    network: nn.Module, part: str, cut: list[Tensor], resized: Callable[[Tensor], Tensor], most: int
) -> Iterator[Tensor]:
    """The heat maps of squares that `resized` brings to one size, at most `most` in a call."""
    for first in range(0, len(cut), most):
        seen = torch.stack([resized(one) for one in cut[first : first + most]])
        yield from network(seen, part)[0].unbind()
