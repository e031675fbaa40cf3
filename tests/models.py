"""Tiny deterministic checkpoints that the host's own loaders accept.

Imported by the tests, this module finds them in the user's cache and has them written there
once. Run as a program inside a host's tree, it writes them: shapes come from the host's own
classes on the meta device, numbers from one seed a file. Matrices are N(0, 1/fan_in),
embeddings N(0, 0.02), norms 1 and biases 0, so that activations neither vanish nor explode
and the pictures are noise that every weight has a part in.
"""

import hashlib
import io
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FOLDERS = (
    "annotators",
    "checkpoints",
    "diffusion_models",
    "loras",
    "controlnet",
    "upscale_models",
    "vae",
)

# One level with one residual block and one transformer: the fewest that SD1.5's detection
# takes. 320 channels and 768 context features are what makes it SD1.5.
SD15_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
    "legacy": False,
}

# Twice the blocks: in fp32 more than the 128 MB that the host loads whatever the memory, so
# that it can be loaded partially.
SD15_UNET_LARGER: dict[str, Any] = {
    **SD15_UNET,
    "num_res_blocks": [2],
    "transformer_depth": [1, 1],
}

# Depth is hidden // 64; 16 channels are what makes it SD3.
SD3_DIT: dict[str, Any] = {
    "input_size": None,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "depth": 1,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 64},
    },
    "num_patches": 1024,
    "pos_embed_max_size": 32,
    "pos_embed_scaling_factor": None,
}

LORA_RANK = 4

SOURCES = (
    "models.py",
    "annotator_files.py",
    "annotators.py",
    "edge_networks.py",
    "pose_programs.py",
)
"""What decides what is in the folder: with another content it is made anew."""

KEPT_SECONDS = 24 * 3600
"""Folders that were not used for so long are removed."""


def written() -> Path:
    """The folder of the checkpoints, in the user's cache; written now if they are not there."""
    import hosts
    from comfyui_ipex.launcher.folders import child_environment, exclusive, user_cache

    sources = b"".join(Path(__file__).with_name(name).read_bytes() for name in SOURCES)
    recipe = hashlib.sha256(sources).hexdigest()[:16]
    cache = user_cache() / "test-models"
    folder = cache / recipe
    with exclusive(cache / ".lock"):
        if not folder.exists():
            host = hosts.installed(hosts.REFERENCE)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                draft = Path(scratch) / "models"
                environment = {**child_environment(), "PYTHONPATH": str(host.tree.path)}
                command = [str(host.python), str(Path(__file__)), str(draft)]
                subprocess.run(command, env=environment, check=True, cwd=scratch)
                os.replace(draft, folder)
        os.utime(folder)
        # Another checkout's tests may be using its own.
        for older in cache.iterdir():
            if older.is_dir() and older.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(older)
    return folder


def model_paths(folder: Path) -> str:
    """The text of an extra_model_paths.yaml that shows `folder` to a host."""
    lines = ["tests:", f"  base_path: {folder}", *(f"  {name}: {name}" for name in FOLDERS)]
    return "\n".join(lines) + "\n"


def photo() -> bytes:
    """A PNG of 64x64: part of a photo that scikit-image ships."""
    from PIL import Image
    from skimage import data

    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()[60:188:2, 160:288:2]).save(buffer, "PNG")
    return buffer.getvalue()


def fill(shapes: dict[str, "torch.Size"], seed: int) -> dict[str, "torch.Tensor"]:
    """fp16 weights for `shapes` by name, drawn in the order of the names."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if len(shape) < 2:
            value = torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
        elif "embedding" in name:
            value = torch.randn(shape, generator=generator) * 0.02
        else:
            fan_in = math.prod(shape[1:])
            value = torch.randn(shape, generator=generator) / math.sqrt(fan_in)
        weights[name] = value.half()
    return weights


def prefixed(prefix: str, weights: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """The same weights under longer names."""
    return {prefix + name: value for name, value in weights.items()}


def shapes_of(module: "torch.nn.Module") -> dict[str, "torch.Size"]:
    """Names and shapes of a module's state."""
    return {name: value.shape for name, value in module.state_dict().items()}


def taesd(channels: int, seed: int) -> dict[str, "torch.Tensor"]:
    """A tiny autoencoder for `channels` latent channels, as `first_stage_model` expects it."""
    import torch
    from comfy.taesd.taesd import TAESD

    with torch.device("meta"):
        shapes = shapes_of(TAESD(latent_channels=channels))
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith("vae_")}
    return fill(shapes, seed)


def sd15_unet(shape: dict[str, Any], seed: int) -> dict[str, "torch.Tensor"]:
    """SD1.5's UNet with one level."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    operations = comfy.ops.disable_weight_init
    unet = UNetModel(
        **shape,
        out_channels=4,
        transformer_depth_output=[1] * (shape["num_res_blocks"][0] + 1),
        device="meta",
        operations=operations,
    )
    return fill(shapes_of(unet), seed)


def clip_l(tree: Path) -> dict[str, "torch.Tensor"]:
    """CLIP-L's text encoder, whose size the host fixes."""
    import json

    import comfy.ops
    import torch
    from comfy.clip_model import CLIPTextModel

    config = json.loads((tree / "comfy" / "sd1_clip_config.json").read_text(encoding="utf-8"))
    operations = comfy.ops.disable_weight_init
    model = CLIPTextModel(config, torch.float16, "meta", operations)
    shapes = shapes_of(model)
    del shapes["text_projection.weight"]
    return fill(shapes, seed=7)


def controlnet() -> dict[str, "torch.Tensor"]:
    """A ControlNet for `sd15_unet`."""
    import comfy.ops
    from comfy.cldm.cldm import ControlNet

    operations = comfy.ops.disable_weight_init
    model = ControlNet(**SD15_UNET, hint_channels=3, device="meta", operations=operations)
    return fill(shapes_of(model), seed=3)


def lora(unet: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """A LoRA on the attention of `sd15_unet`, strong enough to be seen in the picture."""
    import torch

    generator = torch.Generator().manual_seed(31)
    weights: dict[str, torch.Tensor] = {}
    for name, value in sorted(unet.items()):
        if not name.endswith((".to_q.weight", ".to_k.weight", ".to_v.weight")):
            continue
        layer = "diffusion_model." + name.removesuffix(".weight")
        outputs, inputs = value.shape
        down = torch.randn(LORA_RANK, inputs, generator=generator) / math.sqrt(inputs)
        up = torch.randn(outputs, LORA_RANK, generator=generator) / math.sqrt(LORA_RANK)
        weights[f"{layer}.lora_down.weight"] = down.half()
        weights[f"{layer}.lora_up.weight"] = up.half()
        weights[f"{layer}.alpha"] = torch.tensor(float(LORA_RANK)).half()
    return weights


def sd3_dit() -> dict[str, "torch.Tensor"]:
    """SD3's transformer with one block."""
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    operations = comfy.ops.disable_weight_init
    model = MMDiT(**SD3_DIT, dtype=torch.float16, device="meta", operations=operations)
    return fill(shapes_of(model), seed=4)


def upscaler() -> dict[str, "torch.Tensor"]:
    """An ESRGAN x2 with 16 filters and one block."""
    import torch
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    with torch.device("meta"):
        model = RRDBNet(num_filters=16, num_blocks=1, scale=2)
    weights = fill(shapes_of(model), seed=2)
    return {name: value.float() for name, value in weights.items()}


def write_all(folder: Path, tree: Path) -> None:
    """Write every checkpoint below `folder`."""
    import torch
    from safetensors.torch import save_file

    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    unet = sd15_unet(SD15_UNET, seed=15)
    larger = sd15_unet(SD15_UNET_LARGER, seed=45)
    vae4 = taesd(4, seed=16)
    sd15 = prefixed("model.diffusion_model.", unet) | prefixed("first_stage_model.", vae4)
    sd15 |= prefixed("cond_stage_model.transformer.", clip_l(tree))
    save_file(sd15, folder / "checkpoints" / "mini_sd15.safetensors")
    sd3 = prefixed("model.diffusion_model.", sd3_dit())
    sd3 |= prefixed("first_stage_model.", taesd(16, seed=17))
    # Any key of a text encoder makes the host's loader go on without one.
    sd3["text_encoders.none"] = torch.zeros(1, dtype=torch.float16)
    save_file(sd3, folder / "checkpoints" / "mini_sd3.safetensors")
    save_file(larger, folder / "diffusion_models" / "mini_sd15_larger_unet.safetensors")
    save_file(vae4, folder / "vae" / "mini_taesd.safetensors")
    save_file(lora(unet), folder / "loras" / "mini_sd15_lora.safetensors")
    save_file(controlnet(), folder / "controlnet" / "mini_sd15_controlnet.safetensors")
    save_file(upscaler(), folder / "upscale_models" / "mini_esrgan_x2.safetensors")


if __name__ == "__main__":
    destination = Path(sys.argv[1])
    # The host parses the command line when it is imported.
    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    write_all(destination, Path(comfy.options.__file__).parent.parent)
