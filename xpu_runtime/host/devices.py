"""The host's model management, asked about devices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def primary_device() -> "torch.device":
    """The device that the host itself would run a model on now."""
    from comfy import model_management

    return model_management.get_torch_device()


def runs_on_gpu() -> bool:
    """Whether the host looked for a GPU at all: not with --cpu, and not on Apple's MPS."""
    import comfy.model_management as management

    return bool(management.cpu_state == management.CPUState.GPU)


def manual_cast_dtype(
    weight_dtype: "torch.dtype",
    device: "torch.device",
    supported: "Sequence[torch.dtype] | None" = None,
) -> "torch.dtype | None":
    """What the host would compute in on `device` with weights of `weight_dtype`.

    `supported` are the dtypes that the model's architecture can compute in; None means the
    host's default. The answer None means: in the dtype of the weights.
    """
    import comfy.model_management

    cast = comfy.model_management.unet_manual_cast
    if supported is None:
        return cast(weight_dtype, device)
    return cast(weight_dtype, device, supported)


def computes_in_16_bits(device: "torch.device") -> tuple[bool, bool]:
    """Whether the host computes in fp16 and in bf16 on `device`."""
    import comfy.model_management as management

    return bool(management.should_use_fp16(device)), bool(management.should_use_bf16(device))


def supports_half(device: "torch.device") -> tuple[bool, bool]:
    """Whether the host computes in fp16, and in bf16, on `device` if the model can."""
    import comfy.model_management as management

    return (
        bool(management.should_use_fp16(device, prioritize_performance=False)),
        bool(management.should_use_bf16(device)),
    )


def stores_fp8(device: "torch.device") -> bool:
    """Whether the host keeps fp8 weights as they are on `device`."""
    import comfy.model_management
    import torch

    return bool(comfy.model_management.supports_cast(device, torch.float8_e4m3fn))


def offload_device() -> "torch.device":
    """Where the host keeps models that are not loaded."""
    import comfy.model_management

    return comfy.model_management.unet_offload_device()


def text_encoder_device() -> "torch.device":
    import comfy.model_management

    return comfy.model_management.text_encoder_device()


def vae_device() -> "torch.device":
    import comfy.model_management

    return comfy.model_management.vae_device()


def vae_offload_device() -> "torch.device":
    """Where the host keeps a VAE while it is not needed."""
    import comfy.model_management

    return comfy.model_management.vae_offload_device()


def vae_dtype(device: "torch.device", supported: "Sequence[torch.dtype]") -> "torch.dtype":
    """What the host would compute in on `device` with a VAE that can compute in `supported`."""
    import comfy.model_management

    return comfy.model_management.vae_dtype(device, supported)


def casts_from(device: "torch.device", dtype: "torch.dtype") -> bool:
    """Whether weights in `dtype` can be cast on `device`, as far as the host knows."""
    import comfy.model_management

    return bool(comfy.model_management.supports_cast(device, dtype))


def free_memory(device: "torch.device") -> int:
    """Bytes that are free on `device`, the allocator's cache included."""
    import comfy.model_management

    return int(comfy.model_management.get_free_memory(device))


def empty_caches() -> None:
    """Give the allocators' caches back to the drivers."""
    import comfy.model_management

    comfy.model_management.soft_empty_cache()


def device_stats(device: "torch.device") -> dict[str, Any]:
    """A row of `/system_stats`: its keys, their order, and its figures as the host has them."""
    import comfy.model_management as management

    total, torch_total = management.get_total_memory(device, torch_total_too=True)
    free, torch_free = management.get_free_memory(device, torch_free_too=True)
    return {
        "name": management.get_torch_device_name(device),
        "type": device.type,
        "index": device.index,
        "vram_total": total,
        "vram_free": free,
        "torch_vram_total": torch_total,
        "torch_vram_free": torch_free,
    }


def has(function: str) -> bool:
    """Whether the host's model management has a function of this name."""
    # In this form also while it is being executed: a patched host asks then.
    from comfy import model_management

    return hasattr(model_management, function)


def names_used_by(function: str) -> frozenset[str]:
    """The global and attribute names in the code of a function of the host's model management.

    Empty if it does not exist or was replaced by something that is no Python function.
    """
    from comfy import model_management

    code = getattr(getattr(model_management, function, None), "__code__", None)
    return frozenset() if code is None else frozenset(code.co_names)
