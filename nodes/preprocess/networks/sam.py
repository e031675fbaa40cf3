"""Segment Anything (MobileSAM): every segment that a grid of points finds, in a colour of its own.

After controlnet_aux's segment_anything/automatic_mask_generator.py, at its settings, on the
pictures' device. Masks that are not sure are dropped before they are enlarged.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ....inference.weight_files import load_state_dict
from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from .checkpoints import fill
from .depth_maps import normalised

_SAM = "controlnet_aux.segment_anything.build_sam:build_sam_vit_t"

# Of pixels from 0 to 255, red green blue.
_MEAN = (123.675, 116.28, 103.53)
_DEVIATION = (58.395, 57.12, 57.375)

_AT_ONCE = 64
_LEAST_SURE = 0.88
_LEAST_STABLE = 0.95
_SHIFT = 1.0
_MOST_OVERLAP = 0.7


class SegmentAnything(nn.Module):
    """Two calls: what a picture shows, and the masks of points in it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def side(self) -> int:
        """Of the square that is looked at, in pixels."""
        return int(self.network.image_encoder.img_size)

    def forward(
        self, pictures: Tensor, points: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Normalised pictures [N, 3, side, side] to what they show [N, C, h, w].

        With `points` [P, 2] in pixels: what one picture shows [1, C, h, w] to masks
        [P, 3, 4h, 4w], above 0 inside, and how sure they are [P, 3].
        """
        sam = self.network
        if points is None:
            return sam.image_encoder(pictures)
        inside = torch.ones(len(points), 1, dtype=torch.int, device=points.device)
        sparse, dense = sam.prompt_encoder(points=(points[:, None], inside), boxes=None, masks=None)
        return sam.mask_decoder(
            image_embeddings=pictures,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )


def load(paths: Paths) -> nn.Module:
    path = next(iter(paths.values()))
    network = SegmentAnything(network_class(_SAM)())
    state = load_state_dict(path)
    filled = fill(network, {f"network.{name}": value for name, value in state.items()}, path)
    _own_biases(filled)
    return filled


def _own_biases(network: nn.Module) -> None:
    """Make what TinyViT's attention computes once of its weights a part of the network.

    `ab` is a plain attribute, which stays where it was made when the network moves.
    """
    for part in network.modules():
        biases = part.__dict__.pop("ab", None)
        if biases is not None:
            part.register_buffer("ab", biases, persistent=False)


def colour_segments(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Segments in colours on black, small ones over large ones."""
    assert isinstance(network, SegmentAnything)
    height, width = batch.images.shape[2:]
    scale = network.side / max(height, width)
    size = (int(height * scale + 0.5), int(width * scale + 0.5))
    seen = functional.interpolate(batch.images, size, mode="bilinear", antialias=True)
    padding = (0, network.side - size[1], 0, network.side - size[0])
    shown = network(functional.pad(normalised(seen * 255, _MEAN, _DEVIATION), padding))
    pictures = [
        _coloured(
            segments(
                network,
                one[None],
                size,
                (height, width),
                options["points_per_side"],
                batch.check_interrupted,
            ),
            options["seed"],
        )
        for one in shown
    ]
    return Hint(torch.stack(pictures))


def segments(
    network: SegmentAnything,
    shown: Tensor,
    size: tuple[int, int],
    full: tuple[int, int],
    per_side: int,
    check: Callable[[], None] = lambda: None,
) -> Tensor:
    """bool [M, H, W]: the segments of one picture, the largest first.

    `size` is that of the picture in the square that was looked at, `full` its own. `per_side`
    points down and across are asked for the segments that they are in; `check` is called before
    some of them are.
    """
    masks, sure = [], []
    for points in _grid(size, per_side, shown.device).split(_AT_ONCE):
        check()
        found, scores = network(shown, points)
        found, scores = found.flatten(0, 1), scores.flatten()
        chosen = scores > _LEAST_SURE
        whole = _enlarged(found[chosen], network.side, size, full)
        stable = _stability(whole) >= _LEAST_STABLE
        masks.append(whole[stable] > 0)
        sure.append(scores[chosen][stable])
    every = torch.cat(masks)
    kept = _distinct(_boxes(every), torch.cat(sure).float().cpu().numpy())
    every = every[torch.tensor(kept, dtype=torch.long, device=every.device)]
    largest = every.sum((1, 2)).argsort(descending=True, stable=True)
    return every[largest]


def _grid(size: tuple[int, int], per_side: int, device: torch.device) -> Tensor:
    """Points [n, 2], x and y, in the middle of equal parts of a picture."""
    part = (torch.arange(per_side, device=device) + 0.5) / per_side
    y, x = torch.meshgrid(part * size[0], part * size[1], indexing="ij")
    return torch.stack((x, y), -1).view(-1, 2)


def _enlarged(masks: Tensor, side: int, size: tuple[int, int], full: tuple[int, int]) -> Tensor:
    """Masks [M, h, w] at the picture's own size, without what was padded."""
    if not len(masks):
        return masks.new_zeros(0, *full)
    square = functional.interpolate(masks[None], (side, side), mode="bilinear")
    inner = square[:, :, : size[0], : size[1]]
    return functional.interpolate(inner, full, mode="bilinear")[0]


def _stability(masks: Tensor) -> Tensor:
    """How little a mask changes with the border's value: the share that is inside both ways."""
    smaller = (masks > _SHIFT).sum((1, 2))
    return smaller / (masks > -_SHIFT).sum((1, 2))


def _boxes(masks: Tensor) -> np.ndarray:
    """fp32 [M, 4]: left, top, right and bottom pixel of each mask; zeros of an empty one."""
    edges = []
    for lines in (masks.any(1), masks.any(2)):
        place = torch.arange(lines.shape[1], device=masks.device)
        first = torch.where(lines, place, lines.shape[1]).amin(1) if lines.numel() else place[:0]
        last = torch.where(lines, place, -1).amax(1) if lines.numel() else place[:0]
        edges.append((torch.where(last < 0, 0, first), last.clamp(min=0)))
    (left, right), (top, bottom) = edges
    return torch.stack((left, top, right, bottom), 1).float().cpu().numpy()


def _distinct(boxes: np.ndarray, sure: np.ndarray) -> list[int]:
    """The masks of which no surer one has nearly the same box, the surest first."""
    kept: list[int] = []
    for index in np.argsort(-sure, kind="stable"):
        box, others = boxes[index], boxes[kept]
        common = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        shared = np.maximum(common, 0).prod(1)
        areas = (others[:, 2:] - others[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
        if not (shared > _MOST_OVERLAP * (areas - shared)).any():
            kept.append(int(index))
    return kept


def _coloured(masks: Tensor, seed: int) -> Tensor:
    """fp32 [3, H, W] of masks [M, H, W], later ones over earlier ones."""
    colours = np.random.default_rng(seed).integers(0, 255, (len(masks), 3)) / 255
    table = torch.tensor(colours, dtype=torch.float32).to(masks.device)
    canvas = torch.zeros(3, *masks.shape[1:], device=masks.device)
    for mask, colour in zip(masks, table, strict=True):
        canvas = torch.where(mask, colour[:, None, None], canvas)
    return canvas


METHODS = (
    Method(
        name="Sam",
        title="Segment Anything",
        group="segments",
        description="Every segment of a picture in a colour of its own.",
        make_hint=colour_segments,
        options=(
            Option(
                "seed",
                0,
                "Of the colours. The largest segments get theirs first.",
                least=0,
                most=2**32 - 1,
                step=1,
            ),
            Option(
                "points_per_side",
                32,
                "Of the grid of points whose segments are looked for. Fewer are faster, and miss "
                "small segments: time grows with the square.",
                least=1,
                most=64,
                step=1,
            ),
        ),
        networks={
            "": NetworkSpec(
                (
                    WeightFile(
                        "dhkim2810/MobileSAM",
                        "mobile_sam.pt",
                        "main",
                        40728226,
                        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
                        licence="Apache-2.0",
                    ),
                ),
                load,
                half=False,  # points are places of up to 1024 pixels, which bf16 rounds to eights
            )
        },
        aliases=("SAMPreprocessor", "SAM Segmentor"),
    ),
)
