"""Runs inside a host's process on an emulated card: what nodes ask of components and stand-ins.

usage: proxies.py EXTENSION MODELS        (working directory: the host's tree)
The worker is this process, and everything crosses as it would. Prints one line of JSON: for each
function below, what it saw, or the traceback of what broke.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from answering import print_answers

# First: it makes the host importable and parses the arguments.
from placing import CLIP, CONDITIONING, CONTROL, MODEL, VAE, close, sampled

import comfy.hooks  # isort: skip
import torch

import nodes

_PACK = nodes.NODE_CLASS_MAPPINGS["IpexSelectDevice"].__module__.rpartition(".nodes.")[0]
workers = sys.modules[f"{_PACK}.xpu_runtime.workers"]
wire = sys.modules[f"{_PACK}.xpu_runtime.workers.wire"]
devices = sys.modules[f"{_PACK}.xpu_runtime.devices"]
worker_plan = sys.modules[f"{_PACK}.xpu_runtime.worker_plan"]


def crossed(value: Any, made: Mapping[str, Any] | None = None) -> Any:
    """What arrives of a value: its tensors have memory of their own."""
    message = wire.packed(value)
    tensors = tuple(tensor.clone() for tensor in message.tensors)
    return wire.unpacked(dataclasses.replace(message, tensors=tensors), made)


class Here(workers.Worker):
    """A worker without a process: what is sent is made anew from its message."""

    def __init__(self) -> None:
        super().__init__(worker_plan.WorkerPlan("here", "xpu", ()))
        self.devices = (devices.Device("xpu:0@here", "Intel Arc"),)
        self.made: dict[str, Any] = {}

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The call, from its own message, and its answer from another."""
        handed = tuple(self.kept(value) for value in arguments)
        function, given, others = crossed((function, handed, named), self.made)
        return crossed(function(*given, **others))

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The call, which is done at once."""
        answer = self.call(function, *arguments)
        return SimpleNamespace(is_there=lambda: True, result=lambda: answer, abandon=lambda: None)

    def kept(self, value: Any) -> Any:
        """What stands for a resident; it is made first."""
        if not isinstance(value, workers.Resident):
            return value
        if value.key not in self.made:
            handed = tuple(self.kept(one) for one in value.arguments)
            function, given = crossed((value.function, handed), self.made)
            self.made[value.key] = function(*given)
        return wire.Kept(value.key)


workers._workers["here"] = Here()


def placed(component: Any, node: str) -> Any:
    """What a Select Device node makes of a component."""
    cls = nodes.NODE_CLASS_MAPPINGS[f"IpexSelectDevice{node}"]
    return cls().select(component, "xpu:0@here")["result"][0]


def same(one: Any, other: Any) -> bool:
    """Whether two answers are equal, tensors to what half precision and strides explain."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) or close(one.float(), other.float())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, int | float | str | bool | torch.dtype | torch.device | type(None)):
        return bool(one == other)
    return type(one) is type(other) or isinstance(other, type(one))


def outcome(asked: Callable[[Any], Any], component: Any, proxy: Any) -> str:
    """ "same", "absent" in this host, the refusal's attribute, or what else came of it."""
    try:
        wanted = asked(component)
    except (AttributeError, TypeError):
        return "absent"
    try:
        return "same" if same(wanted, asked(proxy)) else "different"
    except workers.NotOnWorkerError as error:
        return f"refused: {str(error).partition(' its ')[2].split()[0]}"


def outcomes(component: Any, proxy: Any, asked: Mapping[str, Callable[[Any], Any]]) -> Any:
    """What came of each question, and each public attribute that is neither there nor refused."""
    missing = []
    for name in dir(component):
        if name.startswith("_") or not hasattr(component, name):
            continue
        try:
            getattr(proxy, name)
        except workers.NotOnWorkerError as error:
            if repr(name) not in str(error):
                missing.append(name)
        except AttributeError:
            missing.append(name)
    told = {name: outcome(call, component, proxy) for name, call in asked.items()}
    return {"missing": missing, "asked": told}


PIXELS = torch.rand(1, 72, 64, 3, generator=torch.Generator().manual_seed(3))
LATENT = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))

OF_VAE: dict[str, Callable[[Any], Any]] = {
    "decode": lambda one: one.decode(LATENT),
    "decode_tiled": lambda one: one.decode_tiled(LATENT, tile_x=4, tile_y=4, overlap=1),
    "encode": lambda one: one.encode(PIXELS),
    "encode_tiled": lambda one: one.encode_tiled(PIXELS, tile_x=32, tile_y=32, overlap=8),
    "get_sd": lambda one: one.get_sd(),
    "model_size": lambda one: one.model_size(),
    "throw_exception_if_invalid": lambda one: one.throw_exception_if_invalid(),
    "vae_encode_crop_pixels": lambda one: one.vae_encode_crop_pixels(PIXELS),
    "spacial_compression_encode": lambda one: one.spacial_compression_encode(),
    "spacial_compression_decode": lambda one: one.spacial_compression_decode(),
    "temporal_compression_decode": lambda one: one.temporal_compression_decode(),
    "downscale_ratio": lambda one: one.downscale_ratio,
    "downscale_index_formula": lambda one: one.downscale_index_formula,
    "latent_channels": lambda one: one.latent_channels,
    "output_channels": lambda one: one.output_channels,
    "process_input": lambda one: one.process_input(PIXELS),
    "memory_used_decode": lambda one: one.memory_used_decode((1, 4, 8, 8), torch.float32),
    "vae_dtype": lambda one: one.vae_dtype,
    "device": lambda one: one.device,
    "first_stage_model": lambda one: one.first_stage_model.training,
    "patcher": lambda one: one.patcher.load_device,
    "decode_tiled_": lambda one: one.decode_tiled_(LATENT),
}


@torch.inference_mode()
def a_vae() -> Any:
    """What nodes ask of a VAE."""
    return outcomes(VAE, placed(VAE, "VAE"), OF_VAE)


TOKENS = CLIP.tokenize("a (red:1.2) fox")


def hooked(clip: Any) -> Any:
    """A text encoder with a schedule of hooks."""
    own = clip.clone()
    hooks = comfy.hooks.HookGroup()
    hooks.add(comfy.hooks.WeightHook(strength_clip=0.5))
    own.patcher.forced_hooks = hooks
    own.use_clip_schedule = True
    return own.encode_from_tokens_scheduled(TOKENS)


OF_CLIP: dict[str, Callable[[Any], Any]] = {
    "tokenize": lambda one: one.tokenize("a (red:1.2) fox"),
    "encode_from_tokens": lambda one: one.encode_from_tokens(TOKENS),
    "return_pooled": lambda one: one.encode_from_tokens(TOKENS, return_pooled=True),
    "return_dict": lambda one: one.encode_from_tokens(TOKENS, return_dict=True),
    "encode_from_tokens_scheduled": lambda one: one.encode_from_tokens_scheduled(TOKENS),
    "encode": lambda one: one.encode("a fox"),
    "clone": lambda one: one.clone().encode_from_tokens(TOKENS),
    "layer": lambda one: nodes.CLIPSetLastLayer().set_last_layer(one, -2)[0].encode("a fox"),
    "key_patches": lambda one: sorted(one.get_key_patches()),
    "get_sd": lambda one: one.get_sd(),
    "set_tokenizer_option": lambda one: one.clone().set_tokenizer_option("min_length", 0),
    "patcher": lambda one: one.patcher.model_size(),
    "tokenizer": lambda one: one.tokenizer,
    "weights": lambda one: [name for name, _ in one.cond_stage_model.named_parameters()],
    "use_clip_schedule": lambda one: one.use_clip_schedule,
    "load_model": lambda one: one.load_model().load_device,
    "network": lambda one: one.cond_stage_model.encode_token_weights(TOKENS),
    "hooks": lambda one: len(hooked(one)),
}


@torch.inference_mode()
def a_text_encoder() -> Any:
    """What nodes ask of a CLIP."""
    return outcomes(CLIP, placed(CLIP, "CLIP"), OF_CLIP)


def applied(control: Any) -> torch.Tensor:
    """A latent that the ControlNet has steered."""
    given = (*CONDITIONING, control, PIXELS, 0.7, 0.0, 1.0)
    return sampled(MODEL, *nodes.ControlNetApplyAdvanced().apply_controlnet(*given))


OF_CONTROLNET: dict[str, Callable[[Any], Any]] = {
    "apply": applied,
    "copy": lambda one: applied(one.copy()),
    "set_extra_arg": lambda one: one.copy().set_extra_arg("control_type", [1]),
    "get_models": lambda one: len(one.get_models()),
    "inference_memory_requirements": lambda one: one.inference_memory_requirements(torch.float16),
    "concat_mask": lambda one: one.concat_mask,
    "compression_ratio": lambda one: one.compression_ratio,
    "dtype": lambda one: one.control_model.dtype,
    "cleanup": lambda one: one.copy().cleanup(),
    "weights": lambda one: len(one.control_model.state_dict()),
}


def a_controlnet() -> Any:
    """What nodes ask of a ControlNet."""
    return outcomes(CONTROL, placed(CONTROL, "ControlNet"), OF_CONTROLNET)


@torch.inference_mode()
def a_pipeline() -> Any:
    """Pipeline with hints of their own for three pictures, beside the nodes it stands for."""
    hints = torch.cat([PIXELS, 1 - PIXELS, PIXELS.flip(1)])
    given = (*CONDITIONING, CONTROL, hints, 0.7, 0.0, 1.0)
    positive, negative = nodes.ControlNetApplyAdvanced().apply_controlnet(*given)
    inputs = {
        **{"model": MODEL, "positive": positive, "negative": negative},
        **{"seed": 7, "steps": 2, "cfg": 4.0, "denoise": 1.0},
        **{"sampler_name": "euler", "scheduler": "normal"},
        "latent_image": {"samples": torch.zeros(3, 4, 8, 8)},
    }
    latent = nodes.KSampler().sample(**inputs)[0]
    wanted = nodes.VAEDecode().decode(VAE, latent)[0]
    found = {}
    for name, vae in (("here", VAE), ("there", placed(VAE, "VAE"))):
        run = nodes.NODE_CLASS_MAPPINGS["IpexPipeline"]().sample_and_finish(
            **inputs, vae=vae, at_once=1
        )
        pictures, latents = run["result"]
        found[name] = [close(one, two) for one, two in zip(pictures, wanted, strict=True)]
        found[name].append(close(latents["samples"], latent["samples"]))
    found["differ"] = [not close(wanted[0], other) for other in wanted[1:]]
    return found


print_answers([a_vae, a_text_encoder, a_controlnet, a_pipeline])
