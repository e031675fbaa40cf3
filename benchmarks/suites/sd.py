"""Stable Diffusion through ComfyUI: UNet step, VAE decode, text encode, a whole picture."""

import copy
import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import psutil
import torch

from ..case import COUNTED, GPU_DTYPE, Case, CaseSettings, Side, Trial
from ..peaks import torch_dtype
from .sd_models import FAMILIES, Family, LoadedFamily, load_family

BATCHES = tuple(1 << power for power in range(12))

CPU_BATCHES = 2
"""Of the sweep, with small models: where memory ends, a CPU's process is killed."""

_TEXT = "a photograph of an old lighthouse on a cliff in a storm, waves, dramatic light"
_FORMATS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def cases() -> list[Case]:
    """The suite, model by model, so that each is loaded once."""
    made = []
    for family in FAMILIES:
        rest = {"quick": family.quick, "gpu_only": not family.quick, "dtypes": GPU_DTYPE}
        side = f"{family.side}x{family.side}"
        batches = BATCHES[:CPU_BATCHES] if family.quick else BATCHES
        made += [
            Case(
                f"{family.name} UNet step {side} batch {batch}",
                "one call of the UNet through ComfyUI",
                functools.partial(_step, family, batch),
                sweep=f"{family.name} UNet step {side}",
                batch=batch,
                **rest,
            )
            for batch in batches
        ]
        named: dict[str, tuple[str, Callable[[Family, CaseSettings], Trial]]] = {
            f"VAE decode {side}": ("a latent to a picture on the CPU", _decode),
            "text encode": ("a prompt to conditioning", _encode),
            f"txt2img {side} {family.steps} steps": (
                "prompts to a picture: text encoders, Euler with CFG 7, VAE",
                _picture,
            ),
        }
        made += [
            Case(f"{family.name} {name}", measures, functools.partial(make, family), **rest)
            for name, (measures, make) in named.items()
        ]
    return made


def _loaded(family: Family, settings: CaseSettings) -> LoadedFamily:
    if settings.tree is None:
        raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
    return load_family(family.name, settings.tree, torch_dtype(settings.dtype))


def _step(family: Family, batch: int, settings: CaseSettings) -> Trial:
    found = _loaded(family, settings)
    import_module("comfy.model_management").load_models_gpu([found.model])
    inputs = _inputs(family, batch, family.side // 8, settings)
    small = _inputs(family, 1, 16, settings)
    apply = found.model.model.apply_model
    exact = _exact(found) if batch == 1 else None
    return Trial(
        Side("UNet", lambda: apply(**inputs)),
        flops=COUNTED,
        outcome=lambda: _velocity(found, small),
        expected=None if exact is None else lambda: exact(small),
        facts=lambda: {"million parameters": round(found.parameters / 1e6, 1)},
    )


def _inputs(
    family: Family, batch: int, side: int, settings: CaseSettings
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    shapes = {"x": (batch, 4, side, side), "c_crossattn": (batch, 77, family.unet["context_dim"])}
    if "adm_in_channels" in family.unet:
        shapes["y"] = (batch, family.unet["adm_in_channels"])
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {**{name: value.to(settings.device) for name, value in drawn.items()},
            "t": torch.full((batch,), 7.0, device=settings.device)}  # fmt: skip


def _network_inputs(inputs: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, Any]:
    rest = {"timesteps": torch.full_like(inputs["t"], 500.0), "context": inputs["c_crossattn"]}
    rest |= {"y": inputs["y"]} if "y" in inputs else {}
    return {name: value.to(dtype) for name, value in {"x": inputs["x"], **rest}.items()}


def _velocity(found: LoadedFamily, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The network alone, in its own number format."""
    model = found.model.model
    return model.diffusion_model(
        **_network_inputs(inputs, model.manual_cast_dtype or model.get_dtype())
    )


def _exact(found: LoadedFamily) -> Callable[[dict[str, torch.Tensor]], torch.Tensor] | None:
    """The same network in fp32 on the CPU; None where the machine's memory is short for it."""
    if psutil.virtual_memory().available < 3 * 4 * found.parameters:
        return None

    def compute(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        network = copy.deepcopy(found.model.model.diffusion_model).to("cpu", torch.float32)
        network.dtype = torch.float32
        there = {name: value.cpu() for name, value in inputs.items()}
        return network(**_network_inputs(there, torch.float32))

    return compute


def _decode(family: Family, settings: CaseSettings) -> Trial:
    found = _loaded(family, settings)
    side = family.side // 8
    generator = torch.Generator().manual_seed(3)
    latent, small = (torch.randn(1, 4, one, one, generator=generator) for one in (side, 8))

    def exact() -> torch.Tensor:
        network = copy.deepcopy(found.vae.first_stage_model).to("cpu", torch.float32)
        return found.vae.process_output(network.decode(small)).movedim(1, -1)

    return Trial(
        Side("VAE", lambda: found.vae.decode(latent)),
        flops=COUNTED,
        computes_in=_FORMATS.get(found.vae.vae_dtype, "fp32"),
        outcome=lambda: found.vae.decode(small),
        expected=exact,
        facts=lambda: {"VAE": _FORMATS.get(found.vae.vae_dtype, str(found.vae.vae_dtype))},
    )


def _conditioning(found: LoadedFamily, text: str) -> Any:
    return import_module("nodes").CLIPTextEncode().encode(found.clip, text)[0]


def _encode(family: Family, settings: CaseSettings) -> Trial:
    found = _loaded(family, settings)
    return Trial(Side("text encoders", lambda: _conditioning(found, _TEXT)))


def _picture(family: Family, settings: CaseSettings) -> Trial:
    found = _loaded(family, settings)
    nodes = import_module("nodes")
    latent = {"samples": torch.zeros(1, 4, family.side // 8, family.side // 8)}

    def make_picture() -> torch.Tensor:
        prompts = [_conditioning(found, text) for text in (_TEXT, "blurry")]
        sampled = nodes.KSampler().sample(
            found.model, 42, family.steps, 7.0, "euler", "normal", *prompts, latent, 1.0
        )
        return nodes.VAEDecode().decode(found.vae, sampled[0])[0]

    return Trial(Side("txt2img", make_picture))
