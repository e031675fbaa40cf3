"""How far a network looks: found by following one NaN through it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .tiles import Needs

STATED = 32
"""The halo of networks that look everywhere, in pixels of the input."""

# Widths of the strips that are tried. ESRGAN with 23 blocks looks 350 pixels far.
_WIDTHS = (96, 256, 768)

# A strip this high shows how far a network looks along it, at little cost.
_HEIGHT = 8

_SHIFTS = (1, 3)


@dataclass(frozen=True)
class Halo:
    """How many pixels around a tile decide what is in it."""

    pixels: int
    exact: bool
    """Tiles cut with this halo give what the whole picture gives."""

    @property
    def note(self) -> str:
        if self.exact:
            return f"{self.pixels} pixels, exact"
        return (
            f"{self.pixels} pixels, stated: this model looks at the whole picture, so tiles "
            "differ a little from it"
        )


def find_halo(
    call: Callable[[Tensor], Tensor],
    needs: Needs,
    channels: int,
    scale: int,
    device: torch.device | None = None,
    most: int | None = None,
) -> Halo:
    """The halo of the network `call`, which takes fp32 [1, channels, H, W] on `device`.

    What a model does to groups of `needs.multiple_of` pixels depends on where in its group a
    pixel lies; one group is added for that. A network counts as looking everywhere if it hides
    a NaN, lets it reach the end of the longest strip, or spreads it differently when picture
    and NaN are shifted: attention in windows does, and its windows would fall elsewhere in a
    tile. Strips longer than a halo of `most` pixels needs are not tried.
    """
    group = needs.multiple_of
    for index, width in enumerate(_WIDTHS):
        if most is not None and index > 0 and _WIDTHS[index - 1] > 2 * most:
            break
        probe = _Probe(call, needs, channels, scale, width, device)
        reach = probe.reach(0)
        if reach is None:
            continue
        across = probe.reach(0, upright=True)
        shifted = (probe.reach(shift * group) for shift in _SHIFTS)
        if across is None or any(other != reach for other in shifted):
            break
        return Halo(max(*reach, *across) + group - 1, exact=True)
    return Halo(STATED, exact=False)


@dataclass(frozen=True)
class _Probe:
    """Strips of one length with a NaN in them."""

    call: Callable[[Tensor], Tensor]
    needs: Needs
    channels: int
    scale: int
    length: int
    device: torch.device | None

    def reach(self, shift: int, upright: bool = False) -> tuple[int, int] | None:
        """How far a NaN `shift` pixels behind the middle spreads to both sides of itself.

        In pixels of the input; None if it reaches an end of the strip, or is hidden.
        """
        height, width = self.needs.padded(_HEIGHT, self.length)
        place = width // 2 + shift
        if place >= width:
            return None
        strip = torch.full((1, self.channels, height, width), 0.5, device=self.device)
        strip[..., height // 2, place] = torch.nan
        result = self.call(strip.transpose(-1, -2) if upright else strip)
        if upright:
            result = result.transpose(-1, -2)
        hit = result.isnan().flatten(0, -2).any(0).nonzero().flatten().tolist()
        if not hit or hit[0] == 0 or hit[-1] == result.shape[-1] - 1:
            return None
        return place - hit[0] // self.scale, hit[-1] // self.scale - place
