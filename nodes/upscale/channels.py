"""Gray, RGB and RGBA pictures through networks of any number of channels."""

from dataclasses import dataclass

import torch
from torch import Tensor

ONES = -1
"""Stands for a channel full of ones: an alpha that the picture lacks."""

GRAY = -2
"""Stands for the brightness of a picture's colours."""

_RGB = 3

# Of red, green and blue in brightness (ITU-R BT.601, as in PIL's mode "L").
_BRIGHTNESS = (0.299, 0.587, 0.114)


class ChannelsError(ValueError):
    """A picture's channels and a network's do not go together."""


@dataclass(frozen=True)
class Pass:
    """One run of the network over a picture."""

    sources: tuple[int, ...]
    """For each input channel of the network, a channel of the picture, `ONES` or `GRAY`."""
    targets: tuple[int, ...]
    """The channels of the result that this pass gives."""
    mean: bool = False
    """The network saw one channel several times, and the result is the mean of its outputs."""

    def gather(self, pixels: Tensor) -> Tensor:
        """The network's input: `pixels` [..., channels] -> [..., inputs]; a view if it can be."""
        if self.sources == tuple(range(pixels.shape[-1])):
            return pixels
        return torch.cat([_channel(pixels, source) for source in self.sources], -1)

    def scatter(self, result: Tensor) -> Tensor:
        """What of the network's `result` [N, outputs, H, W] goes to `targets`."""
        if self.mean:
            return result.mean(1, keepdim=True)
        return result[:, : len(self.targets)]


def _channel(pixels: Tensor, source: int) -> Tensor:
    if source == ONES:
        return torch.ones_like(pixels[..., :1])
    if source == GRAY:
        weights = torch.tensor(_BRIGHTNESS, dtype=pixels.dtype, device=pixels.device)
        return (pixels[..., :_RGB] * weights).sum(-1, keepdim=True)
    return pixels[..., source : source + 1]


def passes(picture: int, inputs: int, outputs: int) -> tuple[Pass, ...]:
    """How a picture of so many channels goes through a network.

    Alpha is enlarged like a gray picture, by the network itself, so that its edges stay those
    of the colours. Raises `ChannelsError` if there is no sensible way.
    """
    if picture not in (1, _RGB, 4) or inputs not in (1, _RGB, 4):
        raise ChannelsError(
            f"A picture with {picture} channels cannot go through a model that takes {inputs} "
            "channels: use a gray, RGB or RGBA picture and a model for one of these."
        )
    if picture == inputs:
        return (Pass(tuple(range(inputs)), tuple(range(outputs))),)
    if inputs == 1 and outputs == _RGB:  # it gives colours to gray pictures
        colours = Pass((GRAY,), (0, 1, 2))
        return (colours, Pass((_RGB,), (_RGB,), mean=True)) if picture == 4 else (colours,)
    if inputs == 1:
        return tuple(Pass((channel,), (channel,)) for channel in range(picture))
    alpha = (ONES,) * (inputs - _RGB)
    gray = Pass((0, 0, 0, *alpha), (0,), mean=inputs == _RGB)
    if picture == 1:
        return (gray,)
    colours = Pass((0, 1, 2, *alpha), (0, 1, 2))
    if picture == _RGB:
        return (colours,)
    return (colours, Pass((_RGB,) * _RGB, (_RGB,), mean=True))


def result_channels(all_passes: tuple[Pass, ...]) -> int:
    return sum(len(one.targets) for one in all_passes)
