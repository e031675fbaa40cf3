"""Attention in the sizes of SD 1.5, SDXL and Flux, plain and bounded.

Bounded attention is what `xpu_runtime` puts in torch's place on an XPU: no matrix of scores above
what the card grants. Its fast path is a call that needs no parts. On other devices the same code
is called by itself, beside their own kernels.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...xpu_runtime.seams.attention import scaled_dot_product_attention, sdpa_on_xpu
from ...xpu_runtime.seams.attention_in_parts import bounded_sdpa
from ...xpu_runtime.seams.attention_limits import SCORE_BYTES, score_limit
from ..case import Case, CaseSettings, Side, Trial
from .tensors import normal

Sdpa = Callable[..., torch.Tensor]

ARC_GRANTS = 4 << 30
"""The most that an Arc card grants in one allocation."""


@dataclass(frozen=True)
class AttentionShape:
    """One attention: [batch, heads, queries, width], and its keys."""

    where: str
    batch: int
    heads: int
    queries: int
    width: int
    keys: int = 0
    """0: as many as queries."""
    quick: bool = False

    @property
    def name(self) -> str:
        keys = f"x{self.keys}" if self.keys else ""
        return f"{self.where} {self.batch}x{self.heads}x{self.queries}{keys}x{self.width}"

    @property
    def scores(self) -> int:
        return self.batch * self.heads * self.queries * (self.keys or self.queries)

    def tensors(self, settings: CaseSettings) -> list[torch.Tensor]:
        """Query, key and value."""
        lengths = (self.queries, self.keys or self.queries, self.keys or self.queries)
        return [
            normal(settings, self.batch, self.heads, length, self.width, seed=seed)
            for seed, length in enumerate(lengths, 1)
        ]


SHAPES = (
    AttentionShape("SD 1.5 512x512", 2, 8, 4096, 40),
    AttentionShape("SD 1.5 512x512 middle", 2, 8, 1024, 80, quick=True),
    AttentionShape("SD 1.5 512x512 text", 2, 8, 4096, 40, keys=77, quick=True),
    AttentionShape("SDXL 1024x1024", 2, 10, 4096, 64),
    AttentionShape("SDXL 1024x1024 middle", 2, 20, 1024, 64),
    AttentionShape("Flux 1024x1024", 1, 24, 4608, 128),
)

SMALL = AttentionShape("a small call", 1, 8, 16, 40, quick=True)


def cases() -> list[Case]:
    kinds = (
        ("plain", "torch's scaled dot product attention", _plain, SHAPES),
        (
            "bounded fast path",
            "bounded attention that needs no parts, against the plain call",
            _fast_path,
            (SMALL, *SHAPES),
        ),
        (
            "bounded 4 parts",
            "bounded attention that is granted a quarter of the scores, against the plain call",
            _in_parts,
            SHAPES[:4],
        ),
    )
    made = [
        Case(
            f"{kind} {shape.name}",
            measures,
            functools.partial(make, shape),
            quick=shape.quick,
            gpu_only=shape.scores > 1 << 26,
        )
        for kind, measures, make, shapes in kinds
        for shape in shapes
    ]
    made.append(
        Case(
            "not an XPU's a small call",
            "the replaced function on another device's tensors, against torch's own",
            functools.partial(_elsewhere, SMALL),
            quick=True,
        )
    )
    return made


def _expected(shape: AttentionShape, tensors: list[torch.Tensor]) -> Callable[[], torch.Tensor]:
    """One head in fp64."""

    def compute() -> torch.Tensor:
        query, key, value = (t[:1, :1, :].cpu().double() for t in tensors)
        scores = (query[:, :, :256] @ key.mT) * shape.width**-0.5
        return scores.softmax(-1) @ value

    return compute


def _trial(
    shape: AttentionShape, settings: CaseSettings, ours: tuple[str, Sdpa], against: bool = True
) -> Trial:
    plain = torch.nn.functional.scaled_dot_product_attention
    tensors = shape.tensors(settings)
    name, call = ours
    return Trial(
        Side(name, lambda: call(*tensors)),
        Side("torch's SDPA", lambda: plain(*tensors)) if against else None,
        # Two products; torch's counter does not know every device's kernel.
        flops=4.0 * shape.scores * shape.width,
        outcome=lambda: call(*tensors)[:1, :1, :256],
        expected=_expected(shape, tensors),
    )


def _plain(shape: AttentionShape, settings: CaseSettings) -> Trial:
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return _trial(shape, settings, ("torch's SDPA", sdpa), against=False)


def _card_limit(device: torch.device) -> int:
    """An Arc card's limit, by what the driver says is free now, which is asked as there."""
    backend: Any = None if device.type == "cpu" else getattr(torch, device.type)
    free = ARC_GRANTS if backend is None else backend.mem_get_info(device)[0]
    return score_limit(ARC_GRANTS, free)


def _fast_path(shape: AttentionShape, settings: CaseSettings) -> Trial:
    plain = torch.nn.functional.scaled_dot_product_attention
    if settings.device.type == "xpu":
        return _trial(
            shape, settings, ("bounded", scaled_dot_product_attention(_card_limit)(plain))
        )
    return _trial(shape, settings, ("bounded", functools.partial(sdpa_on_xpu, plain, _card_limit)))


def _in_parts(shape: AttentionShape, settings: CaseSettings) -> Trial:
    plain = torch.nn.functional.scaled_dot_product_attention
    limit = shape.scores * SCORE_BYTES // 4
    return _trial(shape, settings, ("bounded", functools.partial(bounded_sdpa, plain, limit=limit)))


def _elsewhere(shape: AttentionShape, settings: CaseSettings) -> Trial:
    plain = torch.nn.functional.scaled_dot_product_attention
    return _trial(shape, settings, ("replaced", scaled_dot_product_attention(_card_limit)(plain)))
