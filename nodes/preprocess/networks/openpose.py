"""OpenPose: bodies by heat maps and affinity fields, then the hands and faces of each body.

After controlnet_aux's open_pose, with all pictures, hands and faces of a size in one call. The
networks' results stay small: what they become in the picture's size is computed where it is
looked at (`resampling`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....inference.weight_files import load_state_dict
from ..controlnet_aux import network_class
from ..geometry import MOST_ASPECT
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from . import annotators, resampling
from .checkpoints import fill, make_empty
from .hands_and_faces import hands_and_faces
from .people import PARTS, Field, JointPeaks, group
from .skeletons import OFF, ON, Drawing, Person, Points, draw, pose_of

_BODY_HEIGHT = 184
"""Half the boxes of 368 pixels that the body's network was trained with."""
_STRIDE = 8
_LEAST_PEAK = 0.1
_SMOOTHING = resampling.Blur(3.0, 12, edge_twice=True)


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
    network = make_empty(OpenPose)
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


def find_poses(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Skeletons on black, and their points."""
    assert network is not None
    pictures = batch.images.flip(1) * (255 / 256) - 0.5
    height, width = pictures.shape[2:]
    crowd = bodies(network, pictures)
    budget = pictures.shape[0] * math.prod(seen_size(height, width))
    parts = hands_and_faces(network, pictures, crowd, options, budget)
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
    drawing = Drawing(
        options["detect_body"] == ON,
        options["detect_hand"] == ON,
        options["detect_face"] == ON,
        options["scale_stick_for_xinsr_cn"] == ON,
    )
    canvases = np.stack([draw(found, height, width, drawing) for found in people])
    pixels = torch.from_numpy(canvases).movedim(-1, 1).float() / 255
    return Hint(pixels, tuple(pose_of(found) for found in people))


def _relative(points: Points, height: int, width: int) -> Points:
    return tuple(point and (point[0] / width, point[1] / height) for point in points)


def seen_size(height: int, width: int) -> tuple[int, int]:
    """The size at which bodies are looked for: 184 high, or as wide as `MOST_ASPECT` allows."""
    scale = min(_BODY_HEIGHT / height, MOST_ASPECT * _BODY_HEIGHT / width)
    return max(1, int(height * scale)), max(1, int(width * scale))


def bodies(network: nn.Module, pictures: Tensor) -> list[list[Points]]:
    """For each picture the 18 points of each person, in pixels."""
    height, width = pictures.shape[2:]
    small = seen_size(height, width)
    seen = resampling.apply(pictures, *resampling.resize((height, width), small))
    padding = (-small[1] % _STRIDE, -small[0] % _STRIDE)
    affinities, heat = network(nn.functional.pad(seen, (0, padding[0], 0, padding[1])))
    rows, columns = resampling.enlarging(tuple(heat.shape[2:]), small, (height, width), _STRIDE)
    return decoded(affinities, heat, rows, columns)


def decoded(affinities: Tensor, heat: Tensor, rows: Tensor, columns: Tensor) -> list[list[Points]]:
    """People out of the network's maps; `rows`, `columns` [size, map] enlarge them.

    Only where the peaks are comes from the device's full-size maps, a picture at a time.
    """
    smooth = [_SMOOTHING.after(matrix) for matrix in (rows, columns)]
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
        peaks = JointPeaks(part, x, y, score)
        people = group(peaks, Field(field, rows_, columns_))
        found.append([_points(person, peaks) for person in people])
    return found


def _points(person: Sequence[int], peaks: JointPeaks) -> Points:
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


_LICENCE = "CMU OpenPose: for academic or non-profit, non-commercial research only"


def _file(name: str, size: int, sha256: str) -> WeightFile:
    return WeightFile(
        annotators.REPOSITORY, name, annotators.REVISION, size, sha256, "openpose", _LICENCE
    )


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
    "facenet.pth", 153718792, "8beb52e548624ffcc4aed12af7aee7dcbfaeea420c75609fee999fe7add79d43"
)

OPTIONS = (
    Option("detect_hand", ON, "Look for the joints of hands.", choices=(ON, OFF)),
    Option(
        "detect_body",
        ON,
        "Draw bodies. They are looked for in any case: hands and faces are found by them.",
        choices=(ON, OFF),
    ),
    Option("detect_face", ON, "Look for the outlines of faces.", choices=(ON, OFF)),
    Option(
        "scale_stick_for_xinsr_cn",
        OFF,
        "Thicker limbs in large pictures, as xinsir's ControlNet for SDXL wants them.",
        choices=(OFF, ON),
    ),
)

METHODS = (
    Method(
        name="Openpose",
        title="OpenPose",
        group="pose",
        description="Skeletons of people with hands and faces. Licensed for non-commercial "
        "research only.",
        make_hint=find_poses,
        options=OPTIONS,
        networks={"": NetworkSpec((BODY, HAND, FACE), load)},
        gives_poses=True,
        aliases=("OpenposePreprocessor", "OpenPose Pose"),
    ),
)
