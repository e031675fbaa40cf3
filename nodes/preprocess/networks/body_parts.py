"""Where a body's hands and face are: the squares in which OpenPose looks for them.

After controlnet_aux's open_pose/util.py and OpenPose's handDetector.cpp.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from .skeletons import Point, Points

_SMALLEST = 20
_BEYOND_WRIST = 0.33
_AT_EDGE = 1e-6

# Shoulder, elbow and wrist among the body's points, from 0.
_ARMS = {"left_hand": (5, 6, 7), "right_hand": (2, 3, 4)}

# Eyes and ears, and how many times their distance from the nose the face reaches.
_HEAD = {14: 3.0, 15: 3.0, 16: 1.5, 17: 1.5}


@dataclass(frozen=True)
class BodyPartBox:
    """A square in a picture, in pixels; what lies outside the picture is missing."""

    x: int
    y: int
    side: int

    def of(self, picture: Tensor) -> Tensor:
        """The part of a picture [C, H, W]."""
        return picture[:, self.y : self.y + self.side, self.x : self.x + self.side]

    def to_picture(self, point: Point, height: int, width: int) -> Point:
        """A pixel of the square as a place in the picture; -1 pixel where it is at the edge."""
        x = -1.0 if point[0] < _AT_EDGE else point[0] + self.x
        y = -1.0 if point[1] < _AT_EDGE else point[1] + self.y
        return (x / width, y / height)


def hand_boxes(points: Points, height: int, width: int) -> dict[str, BodyPartBox]:
    """By "left_hand" and "right_hand", for arms that were found whole."""
    boxes: dict[str, BodyPartBox] = {}
    for name, arm in _ARMS.items():
        shoulder, elbow, wrist = (points[index] for index in arm)
        if shoulder is None or elbow is None or wrist is None:
            continue
        reach = max(math.dist(elbow, wrist), 0.9 * math.dist(shoulder, elbow))
        side = 1.5 * reach
        x, y = (
            max(0.0, end + _BEYOND_WRIST * (end - joint) - side / 2)
            for end, joint in zip(wrist, elbow, strict=True)
        )
        side = min(
            width - x if x + side > width else side, height - y if y + side > height else side
        )
        if side >= _SMALLEST:
            boxes[name] = BodyPartBox(int(x), int(y), int(side))
    return boxes


def face_box(points: Points, height: int, width: int) -> BodyPartBox | None:
    """Around the nose, if it and an eye or an ear were found."""
    nose = points[0]
    found = [(points[index], factor) for index, factor in _HEAD.items()]
    reaches = [
        factor * max(abs(nose[0] - point[0]), abs(nose[1] - point[1]))
        for point, factor in found
        if nose is not None and point is not None
    ]
    if nose is None or not reaches:
        return None
    reach = max(reaches)
    x, y = max(0.0, nose[0] - reach), max(0.0, nose[1] - reach)
    side = min(
        width - x if x + reach > width else 2 * reach,
        height - y if y + reach > height else 2 * reach,
    )
    return BodyPartBox(int(x), int(y), int(side)) if side >= _SMALLEST else None
