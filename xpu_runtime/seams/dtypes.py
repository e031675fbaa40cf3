"""What a device computes in."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import host
from ..seam import Seam
from .devices import (
    BOTH_MAKERS,
    MODEL_MANAGEMENT,
    Circumstances,
    asking_about,
    is_xpu,
    kind_of,
    one_maker,
)

if TYPE_CHECKING:
    import torch


def should_use_fp16(original: Callable[..., Any]) -> Callable[..., Any]:
    """fp16 by the properties of the device that is asked about, from its own back end."""

    def replacement(
        device: Any = None,
        model_params: int = 0,
        prioritize_performance: bool = True,
        manual_cast: bool = False,
    ) -> bool:
        asked = host.primary_device() if device is None else device
        with asking_about(kind_of(asked)):
            # With a device even where the host leaves it out: torch takes None for the
            # current card, which need not be the chosen one.
            about = asked if is_xpu(asked) else device
            return original(about, model_params, prioritize_performance, manual_cast)

    return replacement


def should_use_bf16(original: Callable[..., Any]) -> Callable[..., Any]:
    """bf16 where torch says that the XPU computes it, natively or not."""

    def replacement(
        device: Any = None,
        model_params: int = 0,
        prioritize_performance: bool = True,
        manual_cast: bool = False,
    ) -> bool:
        import torch

        asked = host.primary_device() if device is None else device
        if not is_xpu(asked):
            with asking_about(kind_of(asked)):
                return original(device, model_params, prioritize_performance, manual_cast)
        return not host.forces_fp32() and torch.xpu.is_bf16_supported()

    return replacement


def narrow_compute(original: Callable[..., Any]) -> Callable[..., Any]:
    """fp8, fp4 or mxfp8 compute, which the host looks up in the properties of NVIDIA's cards."""

    def replacement(device: Any = None) -> bool:
        with asking_about(kind_of(device)):
            return original(device)

    return replacement


def supports_fp64(original: Callable[..., Any]) -> Callable[..., Any]:
    """fp64 where the card has it."""

    def replacement(device: Any = None) -> bool:
        asked = host.primary_device() if device is None else device
        if is_xpu(asked):
            return has_fp64(asked)
        with asking_about(kind_of(asked)):
            return original(device)

    return replacement


def rope(original: Callable[..., Any]) -> Callable[..., Any]:
    """Flux's position encoding, computed in fp64, on the device of `pos` where that has fp64.

    The host sends it through the CPU whenever it runs on an Intel GPU, whichever card it is.
    """

    def replacement(pos: "torch.Tensor", dim: int, theta: int) -> "torch.Tensor":
        if not is_xpu(pos.device):
            with asking_about(pos.device.type):
                return original(pos, dim, theta)
        if not has_fp64(pos.device):
            return original(pos.cpu(), dim, theta).to(pos.device)
        # "cuda" is the only kind that the host leaves where it is.
        with asking_about("cuda"):
            return original(pos, dim, theta)

    return replacement


def has_fp64(device: "torch.device") -> bool:
    """Whether an XPU computes in fp64; the Arc A series and some integrated GPUs do not."""
    import torch

    return bool(torch.xpu.get_device_properties(device).has_fp64)


# Row -> the host's function. Newer hosts have more of them.
_NARROW = {
    "fp8-compute": "supports_fp8_compute",
    "nvfp4-compute": "supports_nvfp4_compute",
    "mxfp8-compute": "supports_mxfp8_compute",
}

_ROPE_USERS = ("comfy.ldm.flux.layers", "comfy.ldm.hidream.model")

_HAS_FP64 = "this ComfyUI asks one function, which fp64 serves"
_NO_FP64 = "this ComfyUI asks at each place; rope serves"


def dtype_seams(circumstances: Circumstances) -> tuple[Seam, ...]:
    return (
        Seam(
            name="fp16",
            target=f"{MODEL_MANAGEMENT}:should_use_fp16",
            replace=should_use_fp16,
            reason=BOTH_MAKERS,
            not_needed=one_maker(circumstances),
        ),
        Seam(
            name="bf16",
            target=f"{MODEL_MANAGEMENT}:should_use_bf16",
            replace=should_use_bf16,
            reason="bf16 is not used on integrated GPUs although they compute it",
            not_needed=lambda: None if circumstances.both_makers else _bf16_not_needed(),
        ),
        *(
            Seam(
                name=name,
                target=f"{MODEL_MANAGEMENT}:{function}",
                replace=narrow_compute,
                reason=BOTH_MAKERS,
                not_needed=one_maker(circumstances, function),
            )
            for name, function in _NARROW.items()
        ),
        Seam(
            name="fp64",
            target=f"{MODEL_MANAGEMENT}:supports_fp64",
            replace=supports_fp64,
            reason="Flux's position encoding goes through the CPU although the card has fp64",
            not_needed=lambda: None if host.has("supports_fp64") else _NO_FP64,
        ),
        Seam(
            name="rope",
            target="comfy.ldm.flux.math:rope",
            replace=rope,
            reason="Flux's position encoding goes through the CPU although the card has fp64",
            not_needed=lambda: _HAS_FP64 if host.has("supports_fp64") else None,
            also=tuple(f"{module}:rope" for module in _ROPE_USERS),
        ),
    )


def _bf16_not_needed() -> str | None:
    # Where it reads the driver's capabilities; is_bf16_supported also stands in CUDA's branch.
    if "get_device_capability" in host.names_used_by("should_use_bf16"):
        return None
    return "this ComfyUI asks torch itself"
