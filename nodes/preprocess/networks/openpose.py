"""OpenPose: bodies by heat maps and affinity fields, then the hands and faces of each body.

After controlnet_aux's open_pose, with all pictures, hands and faces of a size in one call. The
networks' results stay small: what they become in the picture's size is computed where it is
looked at (`resampling`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...inference.weight_files import load_state_dict
from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, Network, Option, Paths, WeightFile
from . import resampling
from .body_parts import Box, face_box, hand_boxes
from .depth_maps import ANNOTATORS
from .filling import fill
from .people import PARTS, Field, Peaks, group
from .skeletons import Drawing, Person, Point, Points, draw, pose_of

_BODY_HEIGHT = 184
"""Half the boxes of 368 pixels that the body's network was trained with."""
_STRIDE = 8
_LEAST_PEAK = 0.1
_SIGMA = 3.0
_RADIUS = 12

_HAND_SIDES = (184, 368, 552, 736)
_HAND_MAP = 128
_HAND_BLUR = 0.8
_HAND_JOINTS = 21
_FACE_SIDE = 384
_LEAST_HEAT = 0.05


class OpenPose(nn.Module):
    """BGR pictures [N, 3, H, W] from -0.5 to 0.5 to the maps of one of three networks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network_class("controlnet_aux.open_pose.model:bodypose_model")()
        self.hand = network_class("controlnet_aux.open_pose.model:handpose_model")()
        self.face = network_class("controlnet_aux.open_pose.face:FaceNet")()

    def forward(self, pictures: Tensor, part: str = "body") -> tuple[Tensor, ...]:
        """ "body": affinities [N, 38, h, w] and heat [N, 19, h, w]. "hand", "face": heat."""
        if part == "body":
            return tuple(self.body(pictures))
        return (self.hand(pictures),) if part == "hand" else (self.face(pictures)[-1],)


def load(paths: Paths) -> nn.Module:
    """The three networks from their files."""
    with torch.device("meta"):
        network = OpenPose()
    for part, name in (("body", BODY), ("hand", HAND), ("face", FACE)):
        path = paths[name.name]
        module = getattr(network, part)
        state = load_state_dict(path)
        if part != "face":
            # The files name layers alone, the package's classes also the block they are in.
            blocks = {key.split(".", 1)[1]: key for key in module.state_dict()}
            state = {blocks.get(key, key): value for key, value in state.items()}
        fill(module, state, path)
    return network.eval()


@dataclass(frozen=True)
class Crop:
    """A part of one picture, and whose it is."""

    picture: int
    person: int
    name: str
    box: Box


def run(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Skeletons on black, and their points."""
    assert network is not None
    pictures = batch.images.flip(1) * (255 / 256) - 0.5
    height, width = pictures.shape[2:]
    crowd = bodies(network, pictures)
    crops = _crops(crowd, height, width, options)
    budget = pictures.shape[0] * math.ceil(width / height * _BODY_HEIGHT) * _BODY_HEIGHT
    parts: dict[tuple[int, int], dict[str, Points]] = {}
    for find, chosen in (
        (_hands, [crop for crop in crops if crop.name != "face"]),
        (_faces, [crop for crop in crops if crop.name == "face"]),
    ):
        for crop, points in _found(find, network, pictures, chosen, budget):
            parts.setdefault((crop.picture, crop.person), {})[crop.name] = points
    people = [
        tuple(
            Person(_relative(points, height, width), **parts.get((picture, number), {}))
            for number, points in enumerate(found)
        )
        for picture, found in enumerate(crowd)
    ]
    return skeleton_hint(people, height, width, options)


def skeleton_hint(
    people: Sequence[Sequence[Person]], height: int, width: int, options: Mapping[str, Any]
) -> Hint:
    """The people of each picture, drawn."""
    drawing = Drawing(
        options["detect_body"],
        options["detect_hand"],
        options["detect_face"],
        options["scale_stick_for_xinsr_cn"],
    )
    canvases = np.stack([draw(found, height, width, drawing) for found in people])
    pixels = torch.from_numpy(canvases).movedim(-1, 1).float() / 255
    return Hint(pixels, tuple(pose_of(found) for found in people))


def _relative(points: Points, height: int, width: int) -> Points:
    return tuple(point and (point[0] / width, point[1] / height) for point in points)


def bodies(network: nn.Module, pictures: Tensor) -> list[list[Points]]:
    """For each picture the 18 points of each person, in pixels."""
    height, width = pictures.shape[2:]
    scale = _BODY_HEIGHT / height
    small = (int(height * scale), int(width * scale))
    seen = resampling.apply(pictures, *resampling.resize((height, width), small))
    padding = (-small[1] % _STRIDE, -small[0] % _STRIDE)
    affinities, heat = network(nn.functional.pad(seen, (0, padding[0], 0, padding[1])))
    rows, columns = _enlarging(tuple(heat.shape[2:]), small, (height, width))
    return decoded(affinities, heat, rows, columns)


def _enlarging(
    mapped: tuple[int, ...], small: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """From a map to the picture: eight times as large, without the padding, to the size."""
    stretched = [resampling.lanczos(n, n * _STRIDE)[:m] for n, m in zip(mapped, small, strict=True)]
    last = resampling.resize(small, size)
    return last[0] @ stretched[0], last[1] @ stretched[1]


def decoded(affinities: Tensor, heat: Tensor, rows: Tensor, columns: Tensor) -> list[list[Points]]:
    """People out of the network's maps; `rows`, `columns` [size, map] enlarge them.

    Only where the peaks are comes from the device's full-size maps, a picture at a time.
    """
    smooth = [
        resampling.blur(len(matrix), _SIGMA, _RADIUS, edge_twice=True) @ matrix
        for matrix in (rows, columns)
    ]
    masks = torch.stack([_maxima(resampling.apply(one[:PARTS], *smooth)) for one in heat])
    places = masks.nonzero().cpu().numpy()
    rows_, columns_ = rows.numpy(), columns.numpy()
    found = []
    for index, (field, warmth) in enumerate(
        zip(affinities.float().cpu().numpy(), heat.float().cpu().numpy(), strict=True)
    ):
        _, part, y, x = places[places[:, 0] == index].T
        warm = Field(warmth, rows_, columns_)
        score = np.zeros(len(part))
        for number in np.unique(part):
            mine = part == number
            score[mine] = warm.at(number, x[mine], y[mine])
        peaks = Peaks(part, x, y, score)
        people = group(peaks, Field(field, rows_, columns_))
        found.append([_points(person, peaks) for person in people])
    return found


def _points(person: Sequence[int], peaks: Peaks) -> Points:
    return tuple(
        None if peak < 0 else (float(peaks.x[peak]), float(peaks.y[peak])) for peak in person
    )


def _maxima(warmth: Tensor) -> Tensor:
    """Where maps [C, H, W] are above the threshold and no less than each of four neighbours."""
    around = nn.functional.pad(warmth, (1, 1, 1, 1))
    mask = warmth > _LEAST_PEAK
    for one in (around[:, :-2, 1:-1], around[:, 2:, 1:-1]):
        mask &= warmth >= one
    for one in (around[:, 1:-1, :-2], around[:, 1:-1, 2:]):
        mask &= warmth >= one
    return mask


def _crops(
    crowd: Sequence[Sequence[Points]], height: int, width: int, options: Mapping[str, Any]
) -> list[Crop]:
    crops = []
    for picture, found in enumerate(crowd):
        for person, points in enumerate(found):
            if options["detect_hand"]:
                boxes = hand_boxes(points, height, width)
                crops += [Crop(picture, person, name, box) for name, box in boxes.items()]
            box = face_box(points, height, width) if options["detect_face"] else None
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
            yield crop, tuple(crop.box.placed(point, height, width) for point in points)


def _hands(network: nn.Module, cut: list[Tensor], budget: int) -> list[list[Point]]:
    total: list[Tensor] = []
    for side in _HAND_SIDES:
        seen = [_blurred_to(one, side) for one in cut]
        warmth = _in_parts(network, "hand", seen, max(1, budget // side**2))
        enlarging, _ = _enlarging((side // _STRIDE,) * 2, (side, side), (_HAND_MAP, _HAND_MAP))
        heat = [resampling.apply(one[:_HAND_JOINTS], enlarging, enlarging) for one in warmth]
        total = [a + b for a, b in zip(total, heat, strict=True)] if total else heat
    return [
        joints((one / len(_HAND_SIDES)).cpu().numpy(), tuple(source.shape[1:]))
        for one, source in zip(total, cut, strict=True)
    ]


def _blurred_to(one: Tensor, side: int) -> Tensor:
    rows, columns = (
        matrix @ resampling.blur(length, _HAND_BLUR, 3, edge_twice=False)
        for matrix, length in zip(
            resampling.resize(tuple(one.shape[1:]), (side, side)), one.shape[1:], strict=True
        )
    )
    return resampling.apply(one, rows, columns)


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
    seen = [resampling.apply(one, *resampling.resize(tuple(one.shape[1:]), side)) for one in cut]
    heat = _in_parts(network, "face", seen, max(1, budget // _FACE_SIDE**2))
    return [warmest(one, tuple(source.shape[1:])) for one, source in zip(heat, cut, strict=True)]


def warmest(heat: Tensor, size: tuple[int, ...]) -> list[Point]:
    """The pixel of each map's greatest value, of the maps [C, h, w] that have one that counts."""
    full = nn.functional.interpolate(heat[None], size, mode="bilinear", align_corners=True)[0]
    value, place = full.flatten(1).max(1)
    kept = place[value > _LEAST_HEAT].cpu().tolist()
    return [(index % size[1], index // size[1]) for index in kept]


def _in_parts(network: nn.Module, part: str, seen: list[Tensor], most: int) -> list[Tensor]:
    """The heat maps of pictures of one size, at most `most` in a call."""
    found: list[Tensor] = []
    for first in range(0, len(seen), most):
        found += network(torch.stack(seen[first : first + most]), part)[0].unbind()
    return found


_LICENCE = "CMU OpenPose: for academic or non-profit, non-commercial research only"


def _file(name: str, size: int, sha256: str) -> WeightFile:
    return WeightFile(*ANNOTATORS[:1], name, ANNOTATORS[1], size, sha256, "openpose", _LICENCE)


BODY = _file(
    "body_pose_model.pth",
    209267595,
    "25a948c16078b0f08e236bda51a385d855ef4c153598947c28c0d47ed94bb746",
)
HAND = _file(
    "hand_pose_model.pth",
    147341049,
    "b76b00d1750901abd07b9f9d8c98cc3385b8fe834a26d4b4f0aad439e75fc600",
)
FACE = _file(
    "facenet.pth",
    153718792,
    "8beb52e548624ffcc4aed12af7aee7dcbfaeea420c75609fee999fe7add79d43",
)

OPTIONS = (
    Option("detect_hand", True, "Whether the joints of hands are looked for."),
    Option("detect_body", True, "Whether bodies are drawn. They are looked for in any case."),
    Option("detect_face", True, "Whether the outlines of faces are looked for."),
    Option(
        "scale_stick_for_xinsr_cn",
        False,
        "Whether limbs are thicker in large pictures, as xinsir's ControlNet for SDXL wants them.",
    ),
)

METHODS = (
    Method(
        name="Openpose",
        title="OpenPose",
        group="pose",
        description="Skeletons of people with hands and faces. Licensed for non-commercial "
        "research only.",
        run=run,
        options=OPTIONS,
        networks={"": Network((BODY, HAND, FACE), load)},
        gives_poses=True,
        aliases=("OpenposePreprocessor", "OpenPose Pose"),
    ),
)
