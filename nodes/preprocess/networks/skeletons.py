"""People as points: drawn as OpenPose draws them, and in the form of its JSON."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Point = tuple[float, float]
"""x and y from 0 to 1, relative to the picture."""

Points = tuple[Point | None, ...]

# controlnet_aux's open_pose/util.py: which points of the body a limb joins, from 1.
_LIMBS = (
    *((2, 3), (2, 6), (3, 4), (4, 5), (6, 7), (7, 8), (2, 9), (9, 10), (10, 11), (2, 12)),
    *((12, 13), (13, 14), (2, 1), (1, 15), (15, 17), (1, 16), (16, 18)),
)

# Around the colour circle in steps of a third; the last ones are reds again.
_COLOURS = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)),
    *((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)),
    *((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)

_FINGERS = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1)
    for finger in range(5)
    for joint in range(4)
)

_WIDTH = 4


@dataclass(frozen=True)
class Person:
    """What was found of one person; a part that was not looked for or not found is None."""

    body: Points
    """18 points: nose, neck, right arm, left arm, right leg, left leg, eyes, ears."""
    left_hand: Points | None = None
    right_hand: Points | None = None
    face: Points | None = None


@dataclass(frozen=True)
class Drawing:
    """Which parts are drawn, and how."""

    body: bool = True
    hands: bool = True
    face: bool = True
    scaled: bool = False
    """Thicker limbs in large pictures, as xinsir's ControlNet was trained with."""


ON, OFF = "enable", "disable"
"""Values of the options that switch something on or off, as the best-known pack has them."""


def draw(people: Sequence[Person], height: int, width: int, drawing: Drawing) -> np.ndarray:
    """uint8 [height, width, 3]: the people's skeletons on black."""
    canvas = np.zeros((height, width, 3), np.uint8)
    for person in people:
        if drawing.body:
            _draw_body(canvas, person.body, drawing.scaled)
        if drawing.hands:
            _draw_hand(canvas, person.left_hand or ())
            _draw_hand(canvas, person.right_hand or ())
        if drawing.face:
            _draw_dots(canvas, person.face or (), 3, (255, 255, 255))
    return canvas


def stick_scale(height: int, width: int) -> int:
    """How much thicker limbs are drawn for xinsir's ControlNet."""
    longest = max(height, width)
    return 1 if longest < 500 else min(2 + longest // 1000, 7)


def _draw_body(canvas: np.ndarray, points: Points, scaled: bool) -> None:
    import cv2

    height, width = canvas.shape[:2]
    thick = _WIDTH * (stick_scale(height, width) if scaled else 1)
    for (one, other), colour in zip(_LIMBS, _COLOURS, strict=False):
        start, end = points[one - 1], points[other - 1]
        if start is None or end is None:
            continue
        x, y = np.array([start[0], end[0]]) * width, np.array([start[1], end[1]]) * height
        length = math.hypot(x[0] - x[1], y[0] - y[1])
        angle = math.degrees(math.atan2(y[0] - y[1], x[0] - x[1]))
        centre = (int(x.mean()), int(y.mean()))
        outline = cv2.ellipse2Poly(centre, (int(length / 2), thick), int(angle), 0, 360, 1)
        cv2.fillConvexPoly(canvas, outline, [int(part * 0.6) for part in colour])
    for point, colour in zip(points, _COLOURS, strict=True):
        if point is not None:
            place = (int(point[0] * width), int(point[1] * height))
            cv2.circle(canvas, place, 4, colour, thickness=-1)


def _draw_hand(canvas: np.ndarray, points: Points) -> None:
    import cv2

    if not points:
        return
    places = _places(canvas, points)
    for index, (one, other) in enumerate(_FINGERS):
        start, end = places[one], places[other]
        if start is not None and end is not None:
            red, green, blue = colorsys.hsv_to_rgb(index / len(_FINGERS), 1, 1)
            cv2.line(canvas, start, end, (red * 255, green * 255, blue * 255), thickness=2)
    _draw_dots(canvas, points, 4, (0, 0, 255))


def _draw_dots(
    canvas: np.ndarray, points: Points, radius: int, colour: tuple[int, int, int]
) -> None:
    import cv2

    for place in _places(canvas, points):
        if place is not None:
            cv2.circle(canvas, place, radius, colour, thickness=-1)


def _places(canvas: np.ndarray, points: Points) -> list[tuple[int, int] | None]:
    """Pixels; None for points that are missing, which hands and faces put at the edge or beyond."""
    height, width = canvas.shape[:2]
    places = [p and (int(p[0] * width), int(p[1] * height)) for p in points]
    return [place if place and min(place) > 0 else None for place in places]


def pose_of(people: Sequence[Person]) -> dict[str, Any]:
    """POSE_KEYPOINT's form without the canvas: x, y and 1 for each point, or three zeros."""
    return {
        "people": [
            {
                "pose_keypoints_2d": _flat(person.body),
                "face_keypoints_2d": _flat(person.face),
                "hand_left_keypoints_2d": _flat(person.left_hand),
                "hand_right_keypoints_2d": _flat(person.right_hand),
            }
            for person in people
        ]
    }


def _flat(points: Points | None) -> list[float] | None:
    if not points:
        return None
    numbers: list[float] = []
    for point in points:
        numbers += (0.0, 0.0, 0.0) if point is None else (float(point[0]), float(point[1]), 1.0)
    return numbers
