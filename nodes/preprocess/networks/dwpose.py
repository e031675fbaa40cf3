"""DWPose from its TorchScript files: YOLOX finds people, RTMPose the points of their whole body.

After comfyui_controlnet_aux's dwpose/dw_torchscript, with all frames in one call and the people of
all frames together. TorchScript is code: these two files only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....inference.weight_files import load_torchscript
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from .openpose import OPTIONS, skeleton_hint
from .skeletons import ON, Person, Point, Points

_SIDE = 640
_FILLING = 114 / 255
_STRIDES = (8, 16, 32)
_LEAST_SCORE = 0.3
_MOST_OVERLAP = 0.45
_PEOPLE = 5

_HEIGHT, _WIDTH = 384, 288
_AROUND = 1.25
# 255 times ImageNet's, red green blue.
_MEAN = (123.675, 116.28, 103.53)
_DEVIATION = (58.395, 57.12, 57.375)
_STEPS = 2
"""Places of a point in a pixel of RTMPose's picture."""
_LEAST_SURE = 0.3

_BY, _NOBODY = "bbox_detector", "None"

# Of OpenPose's 18 points, which of COCO's; the neck is between the shoulders, 5 and 6.
_BODY = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_SHOULDERS = [5, 6]
_FACE = slice(23, 91)
_LEFT_HAND = slice(91, 112)
_RIGHT_HAND = slice(112, 133)
_EYES = (14, 15)

Boxes = np.ndarray
"""fp32 [n, 4]: left, top, right, bottom in pixels of the picture."""


class DwPose(nn.Module):
    """Two TorchScript programs, or the second one alone, which was traced with five pictures a
    call."""

    def __init__(self, detector: nn.Module | None, estimator: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.estimator = estimator

    def forward(self, pictures: Tensor, part: str = "detector") -> Tensor | tuple[Tensor, ...]:
        """ "detector": pictures [N, 3, 640, 640] from 0 to 255 to rows [N, n, 85] of YOLOX.

        "estimator": normalised people [N, 3, 384, 288] to where each of 133 points is, across
        [N, 133, 576] and down [N, 133, 768].
        """
        if part == "detector":
            assert self.detector is not None
            # Traced with one picture: a batch would depend on how.
            return torch.cat([self.detector(one[None]) for one in pictures])
        across, down = [], []
        for group in pictures.split(_PEOPLE):
            missing = _PEOPLE - len(group)
            filled = nn.functional.pad(group, (0, 0, 0, 0, 0, 0, 0, missing))
            x, y = self.estimator(filled)
            across.append(x[: len(group)])
            down.append(y[: len(group)])
        return torch.cat(across), torch.cat(down)


def load(paths: Paths) -> nn.Module:
    detector = load_torchscript(paths[DETECTOR.name]).float()
    return DwPose(detector, load_torchscript(paths[ESTIMATOR.name]).float()).eval()


def load_estimator(paths: Paths) -> nn.Module:
    return DwPose(None, load_torchscript(paths[ESTIMATOR.name]).float()).eval()


def find_poses(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Skeletons on black, and their points."""
    assert network is not None
    height, width = batch.images.shape[2:]
    if options[_BY] == _NOBODY:
        boxes = [np.array([[0, 0, width, height]], np.float32)] * len(batch.images)
    else:
        boxes = people(network, batch.images)
    found = iter(_wholes(network, batch.images, boxes))
    everyone = [[_person(next(found), height, width, options) for _ in some] for some in boxes]
    return skeleton_hint(everyone, height, width, options)


def people(network: nn.Module, images: Tensor) -> list[Boxes]:
    """Where people are in each picture [N, 3, H, W], the surest first."""
    height, width = images.shape[2:]
    scale = min(_SIDE / height, _SIDE / width)
    size = (max(1, int(height * scale)), max(1, int(width * scale)))
    small = nn.functional.interpolate(images, size, mode="bilinear")
    padding = (0, _SIDE - size[1], 0, _SIDE - size[0])
    # Red first, as the reference gives it, although YOLOX was trained with blue first.
    seen = nn.functional.pad(small, padding, value=_FILLING) * 255
    rows = network(seen)
    centre, extent = _decoded(rows[..., :4])
    score = rows[..., 4] * rows[..., 5]  # of a person, the first of COCO's classes
    corners = torch.cat((centre - extent / 2, centre + extent / 2), -1) / scale
    table = torch.cat((corners, score[..., None]), -1)
    # Whether a class other than "person" is surer does not matter: they do not compete.
    kept = table[..., 4] > _LEAST_SCORE
    counts = kept.sum(1).tolist()
    return [_distinct(rows) for rows in np.split(table[kept].cpu().numpy(), np.cumsum(counts)[:-1])]


def _decoded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and extents in pixels out of YOLOX's cells, of three sizes one after another."""
    cells = []
    for stride in _STRIDES:
        count = _SIDE // stride
        y, x = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
        cells.append(torch.stack((x, y, torch.full_like(x, stride)), -1).view(-1, 3))
    grid = torch.cat(cells).to(rows)
    return (rows[..., :2] + grid[:, :2]) * grid[:, 2:], rows[..., 2:4].exp() * grid[:, 2:]


def _distinct(rows: np.ndarray) -> Boxes:
    """Boxes [n, 4] of rows [n, 5], the surest first, none much over a surer one."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    kept: list[np.ndarray] = []
    # One pixel wider, as the reference counts pixels.
    for box in rows[:, :4]:
        if all(_overlap(box, other) <= _MOST_OVERLAP for other in kept):
            kept.append(box)
    return np.array(kept, np.float32).reshape(-1, 4)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    common = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]) + 1
    shared = float(np.maximum(common, 0).prod())
    areas = [float((box[2:] - box[:2] + 1).prod()) for box in (one, other)]
    return shared / (sum(areas) - shared)


def _wholes(network: nn.Module, images: Tensor, boxes: Sequence[Boxes]) -> list[np.ndarray]:
    """For each box [133, 3]: x and y in pixels, and how sure."""
    if not any(map(len, boxes)):
        return []
    cut, frames = [], []
    for image, some in zip(images, boxes, strict=True):
        for box in some:
            frames.append(_frame(box))
            cut.append(_cut(image, *frames[-1]))
    mean = torch.tensor(_MEAN, device=images.device)[:, None, None] / 255
    deviation = torch.tensor(_DEVIATION, device=images.device)[:, None, None] / 255
    across, down = network((torch.stack(cut) - mean) / deviation, "estimator")
    (sure_x, x), (sure_y, y) = across.max(-1), down.max(-1)
    sure = torch.minimum(sure_x, sure_y)
    places = torch.stack((x, y), -1).to(sure) / _STEPS
    table = torch.cat((places, sure[..., None]), -1).cpu().numpy()
    for one, (centre, size) in zip(table, frames, strict=True):
        nothing = one[:, 2] <= 0
        one[nothing, :2] = -1 / _STEPS
        one[:, :2] = one[:, :2] / (_WIDTH, _HEIGHT) * size + centre - size / 2
    return list(table)


def _frame(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and size, of RTMPose's proportions, of what is looked at for a box."""
    centre, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * _AROUND
    proportion = _WIDTH / _HEIGHT
    wide = size[0] > size[1] * proportion
    size = (size[0], size[0] / proportion) if wide else (size[1] * proportion, size[1])
    return centre, np.array(size, np.float32)


def _cut(image: Tensor, centre: np.ndarray, size: np.ndarray) -> Tensor:
    """That part of a picture [3, H, W] at [3, 384, 288]; black beyond the picture.

    As cv2.warpAffine, which keeps the middle of one where the middle of the other is.
    """
    scale = float(size[0]) / _WIDTH
    places = []
    for middle, count, length in (
        (float(centre[1]), _HEIGHT, image.shape[1]),
        (float(centre[0]), _WIDTH, image.shape[2]),
    ):
        at = (torch.arange(count, device=image.device) - count / 2) * scale + middle
        places.append((at * 2 + 1) / length - 1)
    grid = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], -1)
    return nn.functional.grid_sample(image[None], grid[None], align_corners=False)[0]


def _person(table: np.ndarray, height: int, width: int, options: Mapping[str, Any]) -> Person:
    """A person with OpenPose's points; what is switched off is not among them."""
    sure = table[:, 2] >= _LEAST_SURE
    scale = np.array([width, height])

    def point(number: int) -> Point | None:
        x, y = table[number, :2] / scale
        return (float(x), float(y)) if sure[number] else None

    def points(part: slice) -> Points | None:
        found = tuple(point(number) for number in range(part.start, part.stop))
        return found if any(found) else None

    # The reference takes the neck where both shoulders are surer than this, not as sure.
    both = bool((table[_SHOULDERS, 2] > _LEAST_SURE).all())
    middle = table[_SHOULDERS, :2].mean(0) / scale
    neck = (float(middle[0]), float(middle[1])) if both else None
    body = tuple(neck if number is None else point(number) for number in _BODY)
    face = points(_FACE)
    return Person(
        body if options["detect_body"] == ON else (None,) * len(_BODY),
        points(_LEFT_HAND) if options["detect_hand"] == ON else None,
        points(_RIGHT_HAND) if options["detect_hand"] == ON else None,
        face and (*face, *(body[eye] for eye in _EYES)) if options["detect_face"] == ON else None,
    )


DETECTOR = WeightFile(
    "hr16/yolox-onnx", "yolox_l.torchscript.pt", "main", 217697649, licence="Apache-2.0"
)
ESTIMATOR = WeightFile(
    "hr16/DWPose-TorchScript-BatchSize5",
    "dw-ll_ucoco_384_bs5.torchscript.pt",
    "359d662a9b33b73f6d0f21732baf8845f17bb4be",
    135059124,
    "d86a0b2b59fddc0901a7076e9f59c9f8602602133ed72511c693fd11eea23d91",
    licence="Apache-2.0",
)

METHODS = (
    Method(
        name="DWPose",
        title="DWPose",
        group="pose",
        description="Skeletons of people with hands and faces, surer than OpenPose's. Its two "
        "files are TorchScript, which is code.",
        make_hint=find_poses,
        options=(
            *OPTIONS,
            Option(
                _BY,
                DETECTOR.name,
                "What finds people. 'None' takes the whole picture for one person, and needs one "
                "file less.",
                choices=(DETECTOR.name, _NOBODY),
            ),
        ),
        # A traced program may hold fp32 constants, which no cast reaches.
        networks={
            DETECTOR.name: NetworkSpec((DETECTOR, ESTIMATOR), load, half=False),
            _NOBODY: NetworkSpec((ESTIMATOR,), load_estimator, half=False),
        },
        network_option=_BY,
        gives_poses=True,
        aliases=("DWPreprocessor", "DWPose Estimator"),
    ),
)
