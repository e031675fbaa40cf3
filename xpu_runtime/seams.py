"""THE table: everything that we change in a running host.

Each row replaces one function. A replacement decides by the device that the call is about and
hands every other call to the original unchanged. None is installed without an XPU.
"""

from . import host
from .attention_plan import has_fused_attention
from .decisions import attention, dtypes, faults, memory, primary, transfer
from .memory import MemoryReader
from .seam import Seam

MODEL_MANAGEMENT = "comfy.model_management"
ATTENTION = "comfy.ldm.modules.attention"


def seams(default_index: int | None, max_allocation: int | None) -> tuple[Seam, ...]:
    """The rows.

    `default_index` is the XPU that the user chose, `max_allocation` the user's own figure for
    the most bytes that one tensor may take; None where there is no such choice.
    """
    reader = MemoryReader()
    return (
        Seam(
            name="primary-device",
            target=f"{MODEL_MANAGEMENT}:get_torch_device",
            replace=primary.primary_device(default_index or 0),
            reason="--default-device and COMFYUI_IPEX_DEVICE have no effect on Intel GPUs",
            not_needed=lambda: None if default_index else "no card but the first was chosen",
        ),
        *_memory_seams(reader),
        *_attention_seams(reader, max_allocation),
        *_transfer_seams(),
        *_error_seams(),
    )


def _memory_seams(reader: MemoryReader) -> tuple[Seam, ...]:
    return (
        Seam(
            name="free-memory",
            target=f"{MODEL_MANAGEMENT}:get_free_memory",
            replace=memory.free_memory(reader),
            reason="memory that other programs hold counts as free, and loading a model then dies",
            not_needed=lambda: None,
        ),
        Seam(
            name="unload-all",
            target=f"{MODEL_MANAGEMENT}:unload_all_models",
            replace=memory.unload_all_models,
            reason="unloading leaves models on a second card",
            not_needed=lambda: _EVERY_CARD if host.sees_every_card() else None,
        ),
    )


def _attention_seams(reader: MemoryReader, max_allocation: int | None) -> tuple[Seam, ...]:
    limit_for = attention.attention_limit(reader, max_allocation)
    return (
        Seam(
            name="bounded-attention",
            target="torch.nn.functional:scaled_dot_product_attention",
            replace=attention.scaled_dot_product_attention(limit_for),
            reason="attention asks for more than an Intel GPU grants at once (4 GiB)",
            not_needed=lambda: None,
        ),
        Seam(
            name="sub-quadratic-attention",
            # Looked up at every call, so that copies of attention_sub_quad do not matter.
            target=f"{ATTENTION}:efficient_dot_product_attention",
            replace=attention.efficient_dot_product_attention(limit_for),
            reason="--use-quad-cross-attention asks for more than an Intel GPU grants at once",
            not_needed=lambda: None,
        ),
        Seam(
            name="split-attention",
            target=f"{ATTENTION}:attention_split",
            replace=attention.attention_split,
            reason="--use-split-cross-attention asks for more than an Intel GPU grants at once, "
            "or gives up",
            not_needed=lambda: None,
            also=_COPIES_OF_ATTENTION,
        ),
        Seam(
            name="vae-attention",
            target="comfy.ldm.modules.diffusionmodules.model:slice_attention",
            replace=attention.slice_attention(limit_for),
            reason="a VAE's own attention asks for more than an Intel GPU grants at once",
            not_needed=lambda: None,
        ),
        Seam(
            name="flash-attention-assumption",
            target=f"{MODEL_MANAGEMENT}:pytorch_attention_flash_attention",
            replace=attention.pytorch_attention_flash_attention,
            reason="too little memory is kept free for attention, which then runs out of it",
            not_needed=_fused_attention,
        ),
    )


def _transfer_seams() -> tuple[Seam, ...]:
    return (
        Seam(
            name="bf16",
            target=f"{MODEL_MANAGEMENT}:should_use_bf16",
            replace=dtypes.should_use_bf16,
            reason="bf16 is not used on integrated GPUs although they compute it",
            not_needed=_bf16_not_needed,
        ),
        Seam(
            name="blocking-copies",
            target=f"{MODEL_MANAGEMENT}:device_supports_non_blocking",
            replace=transfer.device_supports_non_blocking,
            reason="previews are read before they are copied, and integrated GPUs copy slowly",
            not_needed=_blocking_not_needed,
        ),
    )


def _error_seams() -> tuple[Seam, ...]:
    return (
        Seam(
            name="oom-errors",
            target=f"{MODEL_MANAGEMENT}:is_oom",
            replace=faults.is_oom,
            reason="Level Zero's own out-of-memory errors stop what could go on in tiles",
            not_needed=lambda: None if host.recognises_oom_itself() else _NO_IS_OOM,
        ),
        Seam(
            name="vae-decode-oom",
            target="comfy.sd:VAE.decode",
            replace=faults.vae_decode,
            reason="Level Zero's own out-of-memory errors stop VAE decoding",
            not_needed=lambda: _HAS_IS_OOM if host.recognises_oom_itself() else None,
        ),
        Seam(
            name="vae-encode-oom",
            target="comfy.sd:VAE.encode",
            replace=faults.vae_encode,
            reason="Level Zero's own out-of-memory errors stop VAE encoding",
            not_needed=lambda: _HAS_IS_OOM if host.recognises_oom_itself() else None,
        ),
    )


# Modules take the attention that was chosen by value. The host loads its own nodes by their path.
_COPIES_OF_ATTENTION = tuple(
    f"{module}:{name}"
    for module in ("comfy.*", "*comfy_extras*")
    for name in ("optimized_attention", "optimized_attention_masked")
)

_EVERY_CARD = "this ComfyUI unloads every card"
_NO_IS_OOM = "this ComfyUI asks at each place; vae-decode-oom and vae-encode-oom serve"
_HAS_IS_OOM = "this ComfyUI asks one function, which oom-errors serves"


def _bf16_not_needed() -> str | None:
    # Where it reads the driver's capabilities; is_bf16_supported also stands in CUDA's branch.
    if "get_device_capability" in host.names_used_by("should_use_bf16"):
        return None
    return "this ComfyUI asks torch itself"


def _blocking_not_needed() -> str | None:
    if "force_non_blocking" in host.names_used_by("device_supports_non_blocking"):
        return "this ComfyUI copies to Intel GPUs in order itself"
    return None


def _fused_attention() -> str | None:
    import torch

    return "this torch's attention is fused" if has_fused_attention(torch.__version__) else None
