"""A host in this process, with the tests' checkpoints, for probes of placing.

Imported by probes whose arguments are EXTENSION and MODELS, in the host's tree; what follows
these is the host's.
"""

import asyncio
import inspect
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
EXTENSION, MODELS = sys.argv[1], Path(sys.argv[2])
sys.argv = ["main.py", *sys.argv[3:]]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import folder_paths  # noqa: E402
import torch  # noqa: E402

import nodes  # noqa: E402

LORA = "mini_sd15_lora.safetensors"
for name in ("checkpoints", "loras", "controlnet", "upscale_models"):
    folder_paths.add_model_folder_path(name, str(MODELS / name))
loaded = nodes.load_custom_node(EXTENSION)
assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded

MODEL, CLIP, VAE = nodes.CheckpointLoaderSimple().load_checkpoint("mini_sd15.safetensors")
CONTROL = nodes.ControlNetLoader().load_controlnet("mini_sd15_controlnet.safetensors")[0]


def select(component: Any, device: str, node: str = "", **others: Any) -> Any:
    """What a Select Device node makes of a component."""
    cls = nodes.NODE_CLASS_MAPPINGS[f"IpexSelectDevice{node}"]
    return cls().select(component, device, **others)["result"][0]


@torch.inference_mode()
def encoded(clip: Any, text: str = "a red fox") -> Any:
    """Conditioning."""
    return nodes.CLIPTextEncode().encode(clip, text)[0]


CONDITIONING = encoded(CLIP), encoded(CLIP, "blurry")


@torch.inference_mode()
def sampled(
    model: Any, positive: Any = None, negative: Any = None, size: tuple[int, int] = (8, 8)
) -> torch.Tensor:
    """The latent of one step; `size` is its height and width."""
    latent = {"samples": torch.zeros(1, 4, *size)}
    conditioning = positive or CONDITIONING[0], negative or CONDITIONING[1]
    result = nodes.common_ksampler(model, 7, 1, 4.0, "euler", "normal", *conditioning, latent)
    return result[0]["samples"]


def with_lora(model: Any) -> Any:
    """A model with the LoRA."""
    return nodes.LoraLoaderModelOnly().load_lora_model_only(model, LORA, 0.8)[0]


def where(model: Any) -> list[str]:
    """The devices of a patcher's weights."""
    return sorted({str(weight.device) for weight in model.model.parameters()})


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two results differ by no more than half precision explains."""
    return float((one - other).abs().mean() / other.std()) < 0.05
