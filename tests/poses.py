"""OpenPose's maps of people who are known, and networks that answer with such maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Joints of a standing person in a box of 1 by 1: nose, neck, right arm, left arm, right leg, left
# leg, eyes, ears.
STANDING = (
    *((0.50, 0.08), (0.50, 0.20), (0.36, 0.21), (0.28, 0.36), (0.25, 0.50)),
    *((0.64, 0.21), (0.72, 0.36), (0.75, 0.50), (0.42, 0.52), (0.40, 0.74), (0.39, 0.95)),
    *((0.58, 0.52), (0.60, 0.74), (0.61, 0.95), (0.47, 0.06), (0.53, 0.06)),
    *((0.42, 0.08), (0.58, 0.08)),
)

# Limbs and the channels of their affinity fields: Hzzone/pytorch-openpose, src/body.py.
LIMBS = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11))
LIMBS += ((11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17))
FIELDS = (12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26)

Joints = dict[int, tuple[float, float]]


def person(left: float, top: float, width: float, height: float, *missing: int) -> Joints:
    """Joints by their number, in cells of a map, without those that are `missing`."""
    places = {n: (left + x * width, top + y * height) for n, (x, y) in enumerate(STANDING)}
    return {number: place for number, place in places.items() if number not in missing}


def maps(people: Sequence[Joints], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Affinities [38, height, width] and heat [19, height, width] of these people."""
    y, x = torch.meshgrid(torch.arange(height) * 1.0, torch.arange(width) * 1.0, indexing="ij")
    heat, affinities = torch.zeros(19, height, width), torch.zeros(38, height, width)
    for number, joints in enumerate(people):
        for part, place in joints.items():
            distance = (x - place[0]) ** 2 + (y - place[1]) ** 2
            bump = (0.9 - 0.05 * number) * torch.exp(-distance / 2)
            heat[part] = torch.maximum(heat[part], bump)
        for (one, other), channel in zip(LIMBS, FIELDS, strict=True):
            if one in joints and other in joints:
                start, end = torch.tensor(joints[one]), torch.tensor(joints[other])
                way = (end - start) / (end - start).norm()
                along = (x - start[0]) * way[0] + (y - start[1]) * way[1]
                aside = ((x - start[0]) * way[1] - (y - start[1]) * way[0]).abs()
                on = (aside < 1) & (along > -1) & (along < (end - start).norm() + 1)
                affinities[channel][on], affinities[channel + 1][on] = way[0], way[1]
    heat[18] = 1 - heat[:18].amax(0)
    return affinities, heat


class Known(nn.Module):
    """Answers with these maps, one for each picture of the call, whatever it sees."""

    def __init__(self, answers: Sequence[tuple[Tensor, ...]]) -> None:
        super().__init__()
        stacked = [nn.Parameter(torch.stack(parts)) for parts in zip(*answers, strict=True)]
        self.answers = nn.ParameterList(stacked)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """As many maps as there are pictures."""
        return tuple(answer[: len(pictures)] for answer in self.answers)


class Spots(nn.Module):
    """Heat at a place of its own for each channel, warmer where the picture is bright."""

    def __init__(self, channels: int, several: bool = False) -> None:
        super().__init__()
        spots = torch.rand(channels, 2, generator=torch.Generator().manual_seed(2))
        self.spots = nn.Parameter(0.15 + 0.7 * spots)
        self.several = several

    def forward(self, pictures: Tensor) -> Tensor | list[Tensor]:
        """[N, channels, H/8, W/8], or a list that ends with it."""
        bright = nn.functional.avg_pool2d(pictures, 8).mean(1, keepdim=True)
        height, width = bright.shape[2:]
        y = (torch.arange(height, device=bright.device) + 0.5)[:, None] / height
        x = (torch.arange(width, device=bright.device) + 0.5) / width
        down = (y - self.spots[:, 1, None, None]) ** 2
        across = (x - self.spots[:, 0, None, None]) ** 2
        heat = torch.exp(-(down + across) / 0.02) * (0.8 + 0.2 * bright)
        return [heat] if self.several else heat
