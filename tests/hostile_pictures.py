"""Pictures and masks as they should be, and as nobody should send them."""

from collections.abc import Mapping
from typing import Any

import torch

SIDE = 48
"""Pixels of a side of the pictures."""


def pictures(kind: str) -> torch.Tensor:
    """fp32 [B, H, W, C], or what no node should be given."""
    smooth = torch.linspace(0, 1, SIDE)
    plain = torch.stack(
        (smooth.expand(SIDE, -1), smooth.expand(SIDE, -1).T, smooth.flip(0).expand(SIDE, -1)), -1
    )[None].contiguous()
    plain[:, 12:30, 12:30] = 0.9
    made = HOSTILE.get(kind)
    return plain if made is None else made(plain)


def _with(value: float) -> Any:
    def put(plain: torch.Tensor) -> torch.Tensor:
        broken = plain.clone()
        broken[0, 5, 6, 1] = value
        return broken

    return put


HOSTILE: Mapping[str, Any] = {
    "NaN": _with(float("nan")),
    "infinite": _with(float("inf")),
    "less than infinite": _with(-float("inf")),
    "enormous": _with(1e38),
    "one pixel": lambda plain: plain[:, :1, :1],
    "one row": lambda plain: plain[:, :1],
    "one column": lambda plain: plain[:, :, :1],
    "no height": lambda plain: plain[:, :0],
    "no width": lambda plain: plain[:, :, :0],
    "no frames": lambda plain: plain[:0],
    "16k wide": lambda plain: plain[:, :1, :1].expand(1, 1, 1 << 14, 3),
    "16k high": lambda plain: plain[:, :1, :1].expand(1, 1 << 14, 1, 3),
    "no channels": lambda plain: plain[..., :0],
    "gray": lambda plain: plain[..., :1],
    "2 channels": lambda plain: plain[..., :2],
    "RGBA": lambda plain: torch.cat((plain, plain[..., :1]), -1),
    "5 channels": lambda plain: plain[..., (0, 1, 2, 0, 1)],
    "no batch": lambda plain: plain[0],
    "five dimensions": lambda plain: plain[None],
    "bytes": lambda plain: (plain * 255).byte(),
    "half": lambda plain: plain.half(),
    "double": lambda plain: plain.double(),
    "views": lambda plain: plain.movedim(1, 2),
    "below 0": lambda plain: plain - 2,
    "above 1": lambda plain: plain * 300,
    "a string": lambda _: "photo.png",
    "nothing": lambda _: None,
}
"""Pictures that some node may hand on, by what is wrong with them; some are harmless."""


def masks(kind: str) -> torch.Tensor:
    """fp32 [B, H, W] of the same kind."""
    made = pictures(kind)
    if not isinstance(made, torch.Tensor) or made.ndim != 4 or made.shape[-1] == 0:
        return made
    return made[..., 0]
