"""Runs inside a host's process on an emulated card: does every sampler and scheduler work there?

usage: samplers.py MODELS EXTENSION        (working directory: the host's tree)
Prints one line of JSON: {"flow": {"samplers": {name: answer}, "schedulers": {name: answer}},
"eps": {...}}; an answer is "finite", or what is wrong. The models are tiny: one of SD3's kind,
which predicts a flow, and one of SD1.5's, which predicts noise. Samplers take other ways for these.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
MODELS, EXTENSION = Path(sys.argv[1]), sys.argv[2]
sys.argv = ["main.py"]
import comfy.options  # noqa: E402

# The host reads the command line when it is imported.
comfy.options.enable_args_parsing()

import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import models as checkpoints  # noqa: E402
import torch  # noqa: E402

XPU = torch.device("xpu:0")

# Multistep samplers need so many before their own formula is used.
STEPS = 4
SEED = 7


def load_extension() -> None:
    """Load the extension as the host does."""
    import nodes

    loaded = nodes.load_custom_node(EXTENSION)
    assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded


def tiny_sd3() -> Any:
    """A patcher of the tests' checkpoint."""
    file = MODELS / "checkpoints" / "mini_sd3.safetensors"
    loaded = comfy.sd.load_checkpoint_guess_config(str(file), output_vae=False, output_clip=False)
    return loaded[0]


def tiny_sd15() -> Any:
    """A patcher of a UNet with a tenth of the channels that the host's loader would ask for."""
    shape = {**checkpoints.SD15_UNET, "model_channels": 32}
    more = {"out_channels": 4, "transformer_depth_output": [1, 1], "dtype": torch.float16}
    config = comfy.supported_models.SD15({**shape, **more})
    config.set_inference_dtype(torch.float16, None)
    made = config.get_model({}, device=torch.device("cpu"))
    made.diffusion_model.load_state_dict(checkpoints.sd15_unet(shape, seed=15))
    return comfy.model_patcher.ModelPatcher(made, XPU, torch.device("cpu"))


def random(*shape: int, seed: int) -> torch.Tensor:
    """Numbers from the CPU's generator."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flow(sampler: str, scheduler: str) -> torch.Tensor:
    """A latent of SD3's kind."""
    texts = [[random(1, 77, 4096, seed=1), {"pooled_output": random(1, 2048, seed=2)}]]
    return sampled(FLOW, 16, texts, sampler, scheduler)


def eps(sampler: str, scheduler: str) -> torch.Tensor:
    """A latent of SD1.5's kind."""
    return sampled(EPS, 4, [[random(1, 77, 768, seed=1), {}]], sampler, scheduler)


def sampled(
    patcher: Any, channels: int, conditioning: Any, sampler: str, scheduler: str
) -> torch.Tensor:
    """What the host's own `sample` gives from noise, with a guidance of 2."""
    latent = torch.zeros(1, channels, 8, 8)
    noise = comfy.sample.prepare_noise(latent, SEED)
    return comfy.sample.sample(
        patcher,
        noise,
        STEPS,
        2.0,
        sampler,
        scheduler,
        conditioning,
        [[torch.zeros_like(conditioning[0][0]), conditioning[0][1]]],
        latent,
        disable_pbar=True,
        seed=SEED,
    )


def answer(sample: Callable[[str, str], torch.Tensor], sampler: str, scheduler: str) -> str:
    """ "finite" for a latent of numbers, else what is wrong."""
    try:
        latent = sample(sampler, scheduler)
    except Exception as error:  # noqa: BLE001 (the caller reports it; the others go on)
        return f"{type(error).__name__}: {error}"
    if not torch.isfinite(latent).all():
        return f"{int((~torch.isfinite(latent)).sum())} numbers are not finite"
    return "finite" if latent.std() > 0 else "all numbers are the same"


def answers(sample: Callable[[str, str], torch.Tensor]) -> dict[str, dict[str, str]]:
    """Each sampler with one scheduler, and each scheduler with one sampler."""
    kinds = comfy.samplers.KSampler
    return {
        "samplers": {name: answer(sample, name, "normal") for name in kinds.SAMPLERS},
        "schedulers": {name: answer(sample, "euler", name) for name in kinds.SCHEDULERS},
    }


if __name__ == "__main__":
    if EXTENSION != "bare":
        load_extension()
    assert comfy.model_management.get_torch_device() == XPU
    assert not torch.xpu.get_device_properties(0).has_fp64
    FLOW, EPS = tiny_sd3(), tiny_sd15()
    sys.stdout.write(json.dumps({"flow": answers(flow), "eps": answers(eps)}) + "\n")
