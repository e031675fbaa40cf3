"""Rows: what a device computes in."""

from .. import host
from ..decisions import dtypes
from ..seam import Seam
from .circumstances import BOTH_MAKERS, MODEL_MANAGEMENT, Circumstances, one_maker

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
    """The rows."""
    return (
        Seam(
            name="fp16",
            target=f"{MODEL_MANAGEMENT}:should_use_fp16",
            replace=dtypes.should_use_fp16,
            reason=BOTH_MAKERS,
            not_needed=one_maker(circumstances),
        ),
        Seam(
            name="bf16",
            target=f"{MODEL_MANAGEMENT}:should_use_bf16",
            replace=dtypes.should_use_bf16,
            reason="bf16 is not used on integrated GPUs although they compute it",
            not_needed=lambda: None if circumstances.both_makers else _bf16_not_needed(),
        ),
        *(
            Seam(
                name=name,
                target=f"{MODEL_MANAGEMENT}:{function}",
                replace=dtypes.narrow_compute,
                reason=BOTH_MAKERS,
                not_needed=one_maker(circumstances, function),
            )
            for name, function in _NARROW.items()
        ),
        Seam(
            name="fp64",
            target=f"{MODEL_MANAGEMENT}:supports_fp64",
            replace=dtypes.supports_fp64,
            reason="Flux's position encoding goes through the CPU although the card has fp64",
            not_needed=lambda: None if host.has("supports_fp64") else _NO_FP64,
        ),
        Seam(
            name="rope",
            target="comfy.ldm.flux.math:rope",
            replace=dtypes.rope,
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
