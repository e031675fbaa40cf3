"""Small TorchScript programs in the place of DWPose's, whose answers are known."""

from pathlib import Path

import torch
from comfyui_ipex.nodes.preprocess.networks import dwpose
from torch import Tensor, nn

HEIGHT, WIDTH = 240, 320
"""Of the pictures that the detector's places are for."""


class Detector(nn.Module):
    """Sees a person of 80 by 160 pixels around each place, in rows of cells of 8 pixels.

    A second, less sure box beside the first one's is the same person; a third is a dog.
    """

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.centres = nn.Parameter(centres)

    def forward(self, picture: Tensor) -> Tensor:
        rows = torch.zeros(1, 8400, 85, device=picture.device)
        rows[..., 2:4] = torch.log(torch.tensor([80.0, 160.0], device=picture.device) * 2.0 / 8.0)
        for index in range(self.centres.size(0)):
            place = self.centres[index] * 2.0 / 8.0
            for beside in range(3):
                row = int(place[1]) * 80 + int(place[0]) + beside
                rows[0, row, 0] = place[0] - float(int(place[0]) + beside) + 0.2 * beside
                rows[0, row, 1] = place[1] - float(int(place[1]))
                rows[0, row, 4] = 0.9 - 0.1 * index
                rows[0, row, 5] = 0.9 - 0.2 * beside if beside < 2 else 0.1
                rows[0, row, 6] = 0.9 if beside == 2 else 0.0
        # A picture that is black all over holds nobody.
        bright = (picture[:, :, :200].amax() > 120.0).to(rows.dtype)
        rows[..., 4] = rows[..., 4] * bright
        return rows


class Estimator(nn.Module):
    """Puts every point where the picture is brightest; hands of the left are not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.full((133,), 0.8))
        with torch.no_grad():
            self.sure[91:112] = 0.1

    def forward(self, people: Tensor) -> tuple[Tensor, Tensor]:
        assert people.size(0) == 5
        across = people.mean(1).amax(1).repeat_interleave(2, 1)
        down = people.mean(1).amax(2).repeat_interleave(2, 1)
        across = (across == across.amax(1, keepdim=True)).to(people.dtype)
        down = (down == down.amax(1, keepdim=True)).to(people.dtype)
        return across[:, None] * self.sure[:, None], down[:, None] * self.sure[:, None]


def paths(folder: Path, *centres: tuple[float, float]) -> dict[str, Path]:
    """Both programs in files."""
    detector = Detector(torch.tensor(centres).view(-1, 2))
    programs = {dwpose.DETECTOR.name: detector, dwpose.ESTIMATOR.name: Estimator()}
    for name, program in programs.items():
        with torch.inference_mode(False):
            torch.jit.script(program).save(str(folder / name))
    return {name: folder / name for name in programs}
