"""3x3 convolutions as diffusion models, their VAE and upscalers have them."""

import functools
from dataclasses import dataclass

import torch

from ..case import COUNTED, Case, CaseSettings, Side, Trial
from .tensors import normal


@dataclass(frozen=True)
class ConvolutionShape:
    """A convolution: pictures, channels in and out, height and width."""

    where: str
    batch: int
    channels: int
    out: int
    side: int
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.where} {self.batch}x{self.channels}x{self.side}x{self.side}"


SHAPES = (
    ConvolutionShape("UNet top", 2, 320, 320, 64, quick=True),
    ConvolutionShape("UNet middle", 2, 640, 640, 32),
    ConvolutionShape("UNet bottom", 2, 1280, 1280, 16),
    ConvolutionShape("SDXL top", 2, 320, 320, 128),
    ConvolutionShape("VAE inner", 1, 512, 512, 128),
    ConvolutionShape("VAE outer", 1, 128, 128, 512),
    ConvolutionShape("upscaler", 1, 64, 64, 512),
)


def cases() -> list[Case]:
    return [
        Case(
            shape.name,
            "a 3x3 convolution in channels_last, against the same in the usual layout",
            functools.partial(_convolution, shape),
            quick=shape.quick,
            gpu_only=not shape.quick and shape.where != "upscaler",
        )
        for shape in SHAPES
    ]


def _convolution(shape: ConvolutionShape, settings: CaseSettings) -> Trial:
    pixels = normal(settings, shape.batch, shape.channels, shape.side, shape.side)
    weight = normal(settings, shape.out, shape.channels, 3, 3, seed=2)
    weight = weight / (9 * shape.channels) ** 0.5
    conv = torch.nn.functional.conv2d
    last = [t.contiguous(memory_format=torch.channels_last) for t in (pixels, weight)]
    # One corner has every kind of pixel, and the CPU's fp64 is slow.
    return Trial(
        Side("channels_last", lambda: conv(last[0], last[1], padding=1)),
        Side("contiguous", lambda: conv(pixels, weight, padding=1)),
        flops=COUNTED,
        moved=float(2 * pixels.nbytes + weight.nbytes),
        outcome=lambda: conv(last[0], last[1], padding=1)[:1, :8, :15, :15],
        expected=lambda: conv(
            pixels[:1, :, :16, :16].cpu().double(), weight[:8].cpu().double(), padding=1
        )[..., :15, :15],
    )
