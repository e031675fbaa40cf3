"""Depth Anything V2: transformers' own network, with the weights as their authors published them.

transformers computes the same as the original but for the position embedding, which is stretched
here as the original does it (DINOv2's `interpolate_offset`).
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....inference.weight_files import load_state_dict
from ..geometry import MOST_ASPECT
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from .checkpoints import fill
from .depth_maps import normalised, stretched

if TYPE_CHECKING:
    from transformers import DepthAnythingConfig, Dinov2Config

PATCH = 14
TRAINED_SIDE = 518
_OFFSET = 0.1


@dataclass(frozen=True)
class DepthAnythingSize:
    """One of the published networks."""

    hidden: int
    layers: int
    taken: tuple[int, ...]
    """The layers whose results go to the head, from 1."""
    necks: tuple[int, ...]
    fusion: int
    gated: bool = False

    def config(self) -> "DepthAnythingConfig":
        """The same for transformers. Heads have 64 numbers each."""
        from transformers import DepthAnythingConfig, Dinov2Config

        backbone = Dinov2Config(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.hidden // 64,
            image_size=TRAINED_SIDE,
            patch_size=PATCH,
            use_swiglu_ffn=self.gated,
            out_indices=list(self.taken),
            apply_layernorm=True,
            reshape_hidden_states=False,
        )
        return DepthAnythingConfig(
            backbone_config=backbone,
            patch_size=PATCH,
            reassemble_hidden_size=self.hidden,
            neck_hidden_sizes=list(self.necks),
            fusion_hidden_size=self.fusion,
        )


# Depth-Anything-V2's run.py and dpt.py; there layers are counted from 0.
SIZES = {
    "small": DepthAnythingSize(384, 12, (3, 6, 9, 12), (48, 96, 192, 384), 64),
    "base": DepthAnythingSize(768, 12, (3, 6, 9, 12), (96, 192, 384, 768), 128),
    "large": DepthAnythingSize(1024, 24, (5, 12, 18, 24), (256, 512, 1024, 1024), 256),
    "giant": DepthAnythingSize(
        1536, 40, (10, 20, 30, 40), (1536, 1536, 1536, 1536), 384, gated=True
    ),
}

_BLOCK = r"pretrained\.blocks\.(\d+)\."
_LAYER = r"backbone.encoder.layer.\1."
_REFINE = r"depth_head\.scratch\.refinenet(\d)\."

# Original names, and what they are called in transformers: before and since its version 5. A
# weight with several names is cut into as many equal parts.
_NAMES: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    (r"pretrained\.(cls|mask)_token", ((r"backbone.embeddings.\1_token",),)),
    (r"pretrained\.pos_embed", (("backbone.embeddings.position_embeddings",),)),
    (r"pretrained\.patch_embed\.proj\.", (("backbone.embeddings.patch_embeddings.projection.",),)),
    (r"pretrained\.norm\.", (("backbone.layernorm.",),)),
    (
        _BLOCK + r"attn\.qkv\.",
        (
            tuple(_LAYER + f"attention.attention.{part}." for part in ("query", "key", "value")),
            tuple(_LAYER + f"attention.{part}_proj." for part in "qkv"),
        ),
    ),
    (
        _BLOCK + r"attn\.proj\.",
        ((_LAYER + "attention.output.dense.",), (_LAYER + "attention.o_proj.",)),
    ),
    (_BLOCK + r"ls(\d)\.gamma", ((_LAYER + r"layer_scale\2.lambda1",),)),
    (
        _BLOCK + r"mlp\.w12\.",
        ((_LAYER + "mlp.weights_in.",), (_LAYER + "mlp.gate_proj.", _LAYER + "mlp.up_proj.")),
    ),
    (_BLOCK + r"mlp\.w3\.", ((_LAYER + "mlp.weights_out.",), (_LAYER + "mlp.down_proj.",))),
    (_BLOCK, ((_LAYER,),)),
    (r"depth_head\.projects\.(\d)\.", ((r"neck.reassemble_stage.layers.\1.projection.",),)),
    (r"depth_head\.resize_layers\.(\d)\.", ((r"neck.reassemble_stage.layers.\1.resize.",),)),
    (r"depth_head\.scratch\.output_conv1\.", (("head.conv1.",),)),
    (r"depth_head\.scratch\.output_conv2\.0\.", (("head.conv2.",),)),
    (r"depth_head\.scratch\.output_conv2\.2\.", (("head.conv3.",),)),
)


def renamed(state: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """The original weights under those of transformers' names that are in `known`.

    Names that no rule is for stay as they are.
    """
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        names = _names_for(name, known)
        parts = value.chunk(len(names)) if len(names) > 1 else (value,)
        result.update(zip(names, parts, strict=True))
    return result


def _names_for(name: str, known: Collection[str]) -> tuple[str, ...]:
    # The head's stages count the other way round.
    name = re.sub(_REFINE, lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}.", name)
    name = re.sub(
        r"depth_head\.scratch\.layer(\d)_rn\.", lambda m: f"neck.convs.{int(m[1]) - 1}.", name
    )
    name = name.replace(".out_conv.", ".projection.")
    name = re.sub(r"\.resConfUnit(\d)\.conv(\d)\.", r".residual_layer\1.convolution\2.", name)
    for pattern, alternatives in _NAMES:
        if re.match(pattern, name):
            found = [tuple(re.sub(pattern, new, name) for new in news) for news in alternatives]
            return next((names for names in found if set(names) <= set(known)), found[-1])
    return (name,)


class DepthAnything(nn.Module):
    """Normalised pictures [N, 3, H, W], sides multiples of 14, to inverse depths [N, 1, H, W]."""

    def __init__(self, size: DepthAnythingSize) -> None:
        super().__init__()
        from transformers import DepthAnythingForDepthEstimation

        config = size.config()
        self.network = DepthAnythingForDepthEstimation(config)
        self.network.backbone.embeddings = _embeddings(config.backbone_config)

    def forward(self, pictures: Tensor) -> Tensor:
        """The greater, the nearer."""
        return self.network(pictures).predicted_depth[:, None]


def _embeddings(config: "Dinov2Config") -> nn.Module:
    """DINOv2's embeddings, with positions stretched as Depth Anything V2 does it."""
    from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings

    class Embeddings(Dinov2Embeddings):
        def interpolate_pos_encoding(self, embeddings: Tensor, height: int, width: int) -> Tensor:
            return _positions(self.position_embeddings, height // PATCH, width // PATCH)

    return Embeddings(config)


def _positions(known: Tensor, rows: int, columns: int) -> Tensor:
    """The position embedding [1, 1 + n*n, C] for `rows` and `columns` of patches.

    From dinov2.py of Depth Anything V2: bicubic in fp32, by a factor that is 0.1 patches too
    large and that the coordinates are computed with.
    """
    side = math.isqrt(known.shape[1] - 1)
    if rows == columns == side:
        return known
    grid = known[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((rows + _OFFSET) / side, (columns + _OFFSET) / side)
    grid = functional.interpolate(grid, scale_factor=factors, mode="bicubic")
    patches = grid.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)
    return torch.cat((known[:, :1], patches.to(known.dtype)), 1)


def network_size(height: int, width: int) -> tuple[int, int]:
    """The size at which a picture is looked at: the shorter side about 518, patches whole.

    Of pictures that are longer than `MOST_ASPECT` it is the longer side that is set.
    """
    short, long = min(height, width), max(height, width)
    thin = long > MOST_ASPECT * short
    scale = MOST_ASPECT * TRAINED_SIDE / long if thin else TRAINED_SIDE / short
    least = PATCH if thin else TRAINED_SIDE

    def whole(side: int) -> int:
        return max(least, round(scale * side / PATCH) * PATCH)

    return whole(height), whole(width)


def estimate_depth(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Inverse depths, each picture's from 0 to 1."""
    assert network is not None
    size = (batch.images.shape[2], batch.images.shape[3])
    pictures = functional.interpolate(batch.images, network_size(*size), mode="bicubic")
    depths = network(normalised(pictures))
    depths = functional.interpolate(depths, size, mode="bilinear", align_corners=True)
    return Hint(stretched(depths))


def loader(size: DepthAnythingSize) -> Callable[[Paths], nn.Module]:
    """What reads the network of this size from its file."""

    def load(paths: Paths) -> nn.Module:
        path = next(iter(paths.values()))
        with torch.device("meta"):
            network = DepthAnything(size)
        state = renamed(load_state_dict(path), network.network.state_dict().keys())
        return fill(network, {f"network.{name}": value for name, value in state.items()}, path)

    return load


_NON_COMMERCIAL = "CC-BY-NC-4.0: not for commercial use"


def _file(
    size: str, letter: str, revision: str, count: int | None, sha256: str | None
) -> WeightFile:
    return WeightFile(
        f"depth-anything/Depth-Anything-V2-{size}",
        f"depth_anything_v2_vit{letter}.pth",
        revision,
        count,
        sha256,
        "depth_anything_v2",
        "Apache-2.0" if letter == "s" else _NON_COMMERCIAL,
    )


FILES = {
    "small": _file(
        "Small",
        "s",
        "03876f8651c73a60fe4c2c48294e09fcb6838fcf",
        99218434,
        "715fade13be8f229f8a70cc02066f656f2423a59effd0579197bbf57860e1378",
    ),
    "base": _file(
        "Base",
        "b",
        "a4e71a6c2ce52fe50df0f212066b0d4a87be9b5e",
        389961218,
        "0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328",
    ),
    "large": _file(
        "Large",
        "l",
        "cbbb86a30ce19b5684b7a05155dc7e6cbc7685b9",
        1341395338,
        "a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345",
    ),
    "giant": _file("Giant", "g", "main", None, None),
}

METHODS = (
    Method(
        name="DepthAnythingV2",
        title="Depth Anything V2",
        group="depth and normals",
        description="Relative depth, near is bright. Each picture is looked at with a shorter side "
        "of 518 pixels, whatever the resolution.",
        make_hint=estimate_depth,
        options=(
            Option(
                "model",
                "large",
                "small, base, large or giant: more detail, more memory and time. Only small may "
                "be used commercially.",
                choices=tuple(SIZES),
            ),
        ),
        networks={name: NetworkSpec((FILES[name],), loader(size)) for name, size in SIZES.items()},
        network_option="model",
        aliases=("DepthAnythingV2Preprocessor", "Depth Anything V2 - Relative"),
    ),
)
