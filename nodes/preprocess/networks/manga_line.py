"""Manga line: structural lines of manga pages, without screentones.

controlnet-aux has no such network, so it is written here from its published structure, with the
names that its checkpoint "erika.pth" uses: Li, Liu and Wong, "Deep Extraction of Manga Structural
Lines" (SIGGRAPH 2017), https://github.com/ljsabc/MangaLineExtraction_PyTorch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..method import Batch, Hint, Method, NetworkSpec, Paths
from . import annotators
from .checkpoints import make_filled

_GRAY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue: ITU-R BT.601, as in OpenCV."""

_DOWN = ((24, 2, False), (48, 3, True), (96, 5, True), (192, 7, True), (384, 12, True))
"""Channels of each stage, how many residual units it has, and whether the last one halves."""

_UP = ((192, 7), (96, 5), (48, 3), (24, 2))
"""Likewise on the way up, where the first unit doubles."""

_LAST_CHANNELS, _LAST_UNITS = 16, 2


class _Model(nn.Module):
    """Parts in a row, called `model` as the checkpoint has it."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*parts)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.model(images)
        return result


def _activated(channels: int, filters: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """Normalised, activated, convolved: in this order."""
    return [
        nn.BatchNorm2d(channels, eps=1e-3),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, filters, size, stride, size // 2),
    ]


class _Unit(nn.Module):
    """Two convolutions and what is added to them; `scale` 2 halves the sides, 1/2 doubles them."""

    def __init__(self, channels: int, filters: int, scale: float = 1) -> None:
        super().__init__()
        stride = 2 if scale == 2 else 1
        enlarged = [nn.Upsample(scale_factor=2, mode="nearest")] if scale == 0.5 else []
        self.conv1 = _Model(*_activated(channels, filters, stride=stride), *enlarged)
        self.residual = _Model(*_activated(filters, filters))
        self.shortcut: nn.Module = nn.Identity()
        if channels != filters or scale == 2:
            self.shortcut = _Model(nn.Conv2d(channels, filters, 1, stride), *enlarged)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.shortcut(images) + self.residual(self.conv1(images))
        return result


def _stage(channels: int, filters: int, units: int, first: float = 1, last: float = 1) -> _Model:
    scales = [first, *(1.0,) * (units - 2), last]
    inputs = [channels, *(filters,) * (units - 1)]
    return _Model(*map(_Unit, inputs, (filters,) * units, scales))


class MangaLine(nn.Module):
    """fp32 lines [N, 1, H, W], 0 on paper of 1 and beyond, of pictures [N, 3, H, W] of 0 to 1.

    Both sides must be multiples of 16.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = 1
        for index, (filters, units, halves) in enumerate(_DOWN):
            self.add_module(f"block{index}", _stage(channels, filters, units, last=1 + halves))
            channels = filters
        for index, (filters, units) in enumerate(_UP, len(_DOWN)):
            self.add_module(f"block{index}", _stage(channels, filters, units, first=0.5))
            channels = filters
        self.block9 = _stage(channels, _LAST_CHANNELS, _LAST_UNITS)
        self.conv15 = _Model(*_activated(_LAST_CHANNELS, 1, size=1))

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = images.mul(255).split(1, 1)
        result = red * _GRAY[0] + green * _GRAY[1] + blue * _GRAY[2]
        kept: list[Tensor] = []
        for index in range(len(_DOWN)):
            result = self.get_submodule(f"block{index}")(result)
            kept.append(result)
        kept.pop()
        for index in range(len(_DOWN), len(_DOWN) + len(_UP)):
            result = kept.pop() + self.get_submodule(f"block{index}")(result)
        lines: Tensor = self.conv15(self.block9(result))
        return lines.float() / 255


def network_of(path: Path) -> nn.Module:
    """The network with the weights in `path`."""
    return make_filled(MangaLine, path)


def load(paths: Paths) -> nn.Module:
    """The network with the weights in `paths`."""
    return network_of(paths[annotators.MANGA_LINE.name])


def draw_lines(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """White lines on black."""
    assert network is not None
    return Hint((1 - network(batch.images)).clamp_(0, 1))


METHODS = (
    Method(
        name="MangaLine",
        title="Manga Line",
        group="lines",
        description="Lines of manga pages, without their screentones. Made for the "
        '"lineart anime" ControlNet.',
        make_hint=draw_lines,
        networks={"": NetworkSpec((annotators.MANGA_LINE,), load)},
        multiple_of=64,
        aliases=("Manga2Anime_LineArt_Preprocessor", "lineart_anime_denoise"),
    ),
)
