"""Stable Diffusion models with random weights, loaded by ComfyUI's own loader.

Shapes come from the host's classes on the meta device, with the configurations that its
`comfy/model_detection.py` lists for SD 1.5 and SDXL; no file is read or written.
"""

import gc
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ...xpu_runtime.host.types import CLIP, VAE, ModelPatcher

_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
}

SD15_UNET: dict[str, Any] = {
    **_UNET,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "num_heads": 8,
}

SDXL_UNET: dict[str, Any] = {
    **_UNET,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "num_head_channels": 64,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}

# One level with one block: the fewest that the host's detection takes for SD 1.5.
TINY_UNET: dict[str, Any] = {
    **SD15_UNET,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}

_VAE: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


@dataclass(frozen=True, eq=False)
class Family:
    name: str
    unet: Mapping[str, Any]
    texts: Mapping[str, str]
    """The host's configuration file of each text encoder, by what its weights' names begin with."""
    side: int
    """Pixels on each side of a picture."""
    steps: int
    whole_vae: bool = True
    """Else TAESD, which is tiny."""
    quick: bool = False


_CLIP_L = "sd1_clip_config.json"
_SD15_TEXT = {"cond_stage_model.transformer.": _CLIP_L}

FAMILIES = (
    Family("tiny", TINY_UNET, _SD15_TEXT, 64, 2, whole_vae=False, quick=True),
    Family("SD 1.5", SD15_UNET, _SD15_TEXT, 512, 20),
    Family(
        "SDXL",
        SDXL_UNET,
        {
            "conditioner.embedders.0.transformer.": _CLIP_L,
            "conditioner.embedders.1.model.transformer.": "clip_config_bigg.json",
        },
        1024,
        20,
    ),
)


@dataclass(frozen=True)
class LoadedFamily:
    family: Family
    model: ModelPatcher
    clip: CLIP
    vae: VAE
    parameters: int
    """Of the UNet."""


_DRAWN = 1 << 24


class Weights:
    """Random numbers, drawn once and used in pieces: models have billions."""

    def __init__(self) -> None:
        self.numbers = torch.randn(_DRAWN, generator=torch.Generator().manual_seed(15))
        self.at = 0

    def of(self, name: str, shape: torch.Size) -> torch.Tensor:
        """fp16 weights such that activations neither vanish nor explode."""
        if len(shape) < 2:
            return (torch.ones if name.endswith("weight") else torch.zeros)(
                shape, dtype=torch.float16
            )
        scale = 0.02 if "embedding" in name else 1 / math.sqrt(math.prod(shape[1:]))
        made = torch.empty(shape.numel(), dtype=torch.float16)
        for begin in range(0, made.numel(), _DRAWN // 2):
            part = made[begin : begin + _DRAWN // 2]
            self.at = (self.at + 7919) % (_DRAWN // 2)  # a prime: pieces do not repeat soon
            torch.mul(self.numbers[self.at : self.at + part.numel()], scale, out=part)
        return made.view(shape)


def _networks(family: Family, tree: Path) -> Iterator[tuple[str, torch.nn.Module]]:
    """The networks of a checkpoint without storage, and what their weights' names begin with."""
    operations = import_module("comfy.ops").disable_weight_init
    unet = import_module("comfy.ldm.modules.diffusionmodules.openaimodel").UNetModel
    heads = {"num_head_channels": -1, "num_heads": -1} | dict(family.unet)
    yield "model.diffusion_model.", unet(**heads, device="meta", operations=operations)
    text_model = import_module("comfy.clip_model").CLIPTextModel
    for prefix, file in family.texts.items():
        config = json.loads((tree / "comfy" / file).read_text(encoding="utf-8"))
        yield prefix, text_model(config, torch.float16, "meta", operations)
    yield "first_stage_model.", _autoencoder(family.whole_vae)


def _autoencoder(whole: bool) -> torch.nn.Module:
    with torch.device("meta"):
        if whole:
            kind = import_module("comfy.ldm.models.autoencoder").AutoencoderKL
            return kind(ddconfig=dict(_VAE), embed_dim=4)
        return import_module("comfy.taesd.taesd").TAESD(latent_channels=4)


def state(family: Family, tree: Path) -> dict[str, torch.Tensor]:
    """A checkpoint of random fp16 weights."""
    weights = Weights()
    made: dict[str, torch.Tensor] = {}
    for prefix, network in _networks(family, tree):
        for name, value in network.state_dict().items():
            # TAESD's two scalars belong to no file; only bigG's projection is in one.
            own = not name.startswith("vae_") and (
                name != "text_projection.weight" or "embedders.1" in prefix
            )
            if own:
                made[prefix + name] = weights.of(name, value.shape)
    return made


_LOADED: dict[tuple[str, torch.dtype], LoadedFamily] = {}


def load_family(name: str, tree: Path, dtype: torch.dtype) -> LoadedFamily:
    """The family's model through the host's loader; the one before it is dropped first.

    `dtype` is the UNet's; text encoders and VAE get what the host chooses.
    """
    if (name, dtype) not in _LOADED:
        management = import_module("comfy.model_management")
        management.unload_all_models()
        _LOADED.clear()
        gc.collect()
        management.soft_empty_cache()
        _LOADED[name, dtype] = _load(name, tree, dtype)
    return _LOADED[name, dtype]


def _load(name: str, tree: Path, dtype: torch.dtype) -> LoadedFamily:
    family = next(family for family in FAMILIES if family.name == name)
    load = import_module("comfy.sd").load_state_dict_guess_config
    model, clip, vae, _ = load(state(family, tree), model_options={"dtype": dtype})
    parameters = sum(value.numel() for value in model.model.diffusion_model.parameters())
    return LoadedFamily(family, model, clip, vae, parameters)
