"""The steps of the host's diffusion models: where one can be wrapped, and how one is run."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .interface import node_class

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StepCall:
    """One call of a model, as a wrapper around it sees it."""

    network: Any
    """The host's `BaseModel`."""
    patcher: Any
    """The ModelPatcher for which it runs; None outside the host's sampling."""
    wrapped: bool
    """Whether other wrappers run inside this call."""


def wrap_steps(patcher: Any, key: str, wrapper: Callable[..., Any]) -> None:
    """Have a ModelPatcher call `wrapper(executor, *inputs)` for each step.

    One that was set under the same key is replaced.
    """
    from comfy.patcher_extension import WrappersMP

    patcher.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, key)
    patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, wrapper)


def on_changes(
    patcher: Any,
    key: str,
    loaded: Callable[[Any], None],
    detached: Callable[[Any, bool], None],
    cleaned: Callable[[Any], None] = lambda _: None,
) -> None:
    """Have a ModelPatcher tell when it was loaded, when it left, and when a sampling is over.

    `detached` is also told whether the weights have left the device. Callbacks that were set
    under the same key are replaced.
    """
    from comfy.patcher_extension import CallbacksMP

    calls: dict[str, Callable[..., None]] = {
        CallbacksMP.ON_LOAD: lambda one, *_: loaded(one),
        CallbacksMP.ON_DETACH: lambda one, everything=True: detached(one, bool(everything)),
        CallbacksMP.ON_CLEANUP: lambda one: cleaned(one),
    }
    for kind, call in calls.items():
        patcher.remove_callbacks_with_key(kind, key)
        patcher.add_callback_with_key(kind, key, call)


def step_call(executor: Any, options: dict[str, Any]) -> StepCall:
    """What a wrapper of `wrap_steps` is called for; `options` are the `transformer_options`."""
    from comfy.patcher_extension import WrappersMP

    network = executor.class_obj
    inner = len(executor.wrappers) > executor.idx + 1
    around = options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    wrapped = inner or any(around.values())
    return StepCall(network, getattr(network, "current_patcher", None), wrapped)


def compute_dtype(network: Any) -> "torch.dtype":
    """What a `BaseModel` computes in."""
    cast = getattr(network, "manual_cast_dtype", None)
    return cast if cast is not None else network.get_dtype()


def forces_channels_last() -> bool:
    """Whether the host was started with --force-channels-last."""
    import comfy.model_management

    return bool(comfy.model_management.force_channels_last())


class NoExampleError(ValueError):
    """A model that no example step can be made for."""


def run_example_step(patcher: Any, height: int, width: int, batch: int) -> None:
    """Load a model and run one step of it, with noise of so many latent pixels and no prompt.

    Raises `NoExampleError` if it is none of the host's UNets, whose inputs are known, and what
    loading and running raise.
    """
    import comfy.model_management
    import torch

    network = patcher.model
    config = network.model_config.unet_config
    width_of_context = config.get("context_dim")
    channels = network.latent_format.latent_channels
    if not isinstance(width_of_context, int) or "model_channels" not in config:
        raise NoExampleError(f"no example step is known for {type(network).__name__}")
    shape = (batch, channels, height, width)
    needed = patcher.memory_required(list(shape))
    comfy.model_management.load_models_gpu([patcher], memory_required=needed)
    device = patcher.load_device
    source = torch.Generator().manual_seed(0)

    def noise(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=source).to(device)

    inputs = {"c_crossattn": noise(batch, 77, width_of_context)}
    if network.adm_channels:
        inputs["y"] = noise(batch, network.adm_channels)
    if config["in_channels"] > channels:
        inputs["c_concat"] = noise(batch, config["in_channels"] - channels, height, width)
    sigma = network.model_sampling.sigma_max.to(device).float().expand(batch).clone() / 2
    options = {"wrappers": patcher.wrappers, "cond_or_uncond": [1, 0], "sigmas": sigma[:1]}
    patcher.pre_run()
    try:
        network.apply_model(
            noise(*shape) * sigma[:, None, None, None], sigma, transformer_options=options, **inputs
        )
    finally:
        patcher.cleanup()


def sampler_names() -> list[str]:
    """The samplers of KSampler, or none where the host's samplers are not loaded."""
    return list(getattr(_samplers(), "SAMPLERS", ()))


def scheduler_names() -> list[str]:
    """The schedulers of KSampler, or none where the host's samplers are not loaded."""
    return list(getattr(_samplers(), "SCHEDULERS", ()))


def _samplers() -> Any:
    # Never imported: who lists nodes with the host has loaded it, and tests do without.
    return getattr(sys.modules.get("comfy.samplers"), "KSampler", None)


def part_of_latent(latent: Mapping[str, Any], first: int, count: int) -> dict[str, Any]:
    """The host's own part of a LATENT's batch, for which KSampler draws the whole's noise.

    Raises `RuntimeError` where the host's nodes are not loaded.
    """
    return dict(_node("LatentFromBatch").frombatch(latent, first, count)[0])


def sampled(
    model: Any, positive: Any, negative: Any, latent: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The LATENT that the host's KSampler makes of this one.

    `settings`: seed, steps, cfg, sampler_name, scheduler, denoise. Raises `RuntimeError` where
    the host's nodes are not loaded.
    """
    conditioning = {"positive": positive, "negative": negative}
    node = _node("KSampler")
    return dict(node.sample(model=model, latent_image=latent, **conditioning, **settings)[0])


def _node(name: str) -> Any:
    found = node_class(name)
    if found is None:
        raise RuntimeError(f"ComfyUI's node {name} is not loaded in this process.")
    return found()
