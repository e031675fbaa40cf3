"""THE table: everything that we change in a running host.

Each row replaces one function. A replacement decides by the device that the call is about and
hands every other call to the original unchanged. None is installed without an XPU.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from . import attention, host
from .decisions import attention as attention_decisions
from .decisions import dtypes, faults, memory, primary, transfer
from .memory import MemoryReader
from .priority import Primary
from .seam import Seam

MODEL_MANAGEMENT = "comfy.model_management"

_BOTH_MAKERS = "with an NVIDIA card beside it, the wrong maker's back end is asked"


@dataclass(frozen=True)
class Circumstances:
    """What the rows depend on in this process."""

    primary: Primary
    xpus: int
    """How many Intel GPUs torch offers."""
    both_makers: bool
    """torch offers CUDA devices beside the XPUs."""
    max_allocation: int | None
    """The user's own figure for the most bytes that one tensor may take."""


def seams(circumstances: Circumstances, reader: MemoryReader) -> tuple[Seam, ...]:
    """The rows, in the order of the report; without an XPU at most the choice of a card."""
    if circumstances.xpus == 0:
        return (_primary_seam(circumstances),) if circumstances.primary.index else ()
    return (
        *_device_seams(circumstances),
        *_memory_seams(reader, circumstances),
        *_attention_seams(reader, circumstances.max_allocation),
        *_dtype_seams(circumstances),
        *_transfer_seams(circumstances),
        *_error_seams(),
    )


def _device_seams(circumstances: Circumstances) -> tuple[Seam, ...]:
    chosen = circumstances.primary
    return (
        Seam(
            name="intel-or-not",
            target=f"{MODEL_MANAGEMENT}:is_intel_xpu",
            replace=primary.is_intel_xpu(chosen),
            reason=_BOTH_MAKERS,
            not_needed=lambda: None,
        ),
        Seam(
            name="nvidia-or-not",
            target=f"{MODEL_MANAGEMENT}:is_nvidia",
            replace=primary.is_nvidia(chosen),
            reason=_BOTH_MAKERS,
            not_needed=_one_maker(circumstances),
        ),
        _primary_seam(circumstances),
        Seam(
            name="device-name",
            target=f"{MODEL_MANAGEMENT}:get_torch_device_name",
            replace=primary.get_torch_device_name,
            reason=_BOTH_MAKERS,
            not_needed=_one_maker(circumstances),
        ),
        Seam(
            name="all-devices",
            target=f"{MODEL_MANAGEMENT}:get_all_torch_devices",
            replace=primary.all_devices,
            reason="only one maker's cards are seen",
            not_needed=_one_maker(circumstances, "get_all_torch_devices"),
        ),
    )


def _primary_seam(circumstances: Circumstances) -> Seam:
    return Seam(
        name="primary-device",
        target=f"{MODEL_MANAGEMENT}:get_torch_device",
        replace=primary.primary_device(circumstances.primary),
        reason="COMFYUI_IPEX_DEVICE, and --default-device on Intel GPUs, have no effect",
        not_needed=lambda: _primary_not_needed(circumstances),
    )


def _memory_seams(reader: MemoryReader, circumstances: Circumstances) -> tuple[Seam, ...]:
    return (
        Seam(
            name="total-memory",
            target=f"{MODEL_MANAGEMENT}:get_total_memory",
            replace=memory.total_memory(reader),
            reason="a card that was not used yet ends what asks for its memory",
            not_needed=lambda: None,
        ),
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
            reason="models stay on a second card; after a lost one the server's worker ends",
            not_needed=lambda: None,
        ),
        Seam(
            name="empty-cache",
            target=f"{MODEL_MANAGEMENT}:soft_empty_cache",
            replace=memory.soft_empty_cache,
            reason="memory stays with another maker's card; a lost card ends the server's worker",
            not_needed=lambda: None,
        ),
    )


def _attention_seams(reader: MemoryReader, max_allocation: int | None) -> tuple[Seam, ...]:
    return (
        Seam(
            name="bounded-attention",
            target="torch.nn.functional:scaled_dot_product_attention",
            replace=functools.partial(
                attention.replacement,
                limit_for=attention_decisions.attention_limit(reader, max_allocation),
            ),
            reason="attention asks for more than an Intel GPU grants at once (4 GiB)",
            not_needed=lambda: None,
        ),
    )


def _dtype_seams(circumstances: Circumstances) -> tuple[Seam, ...]:
    return (
        Seam(
            name="fp16",
            target=f"{MODEL_MANAGEMENT}:should_use_fp16",
            replace=dtypes.should_use_fp16,
            reason=_BOTH_MAKERS,
            not_needed=_one_maker(circumstances),
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
                reason=_BOTH_MAKERS,
                not_needed=_one_maker(circumstances, function),
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


def _transfer_seams(circumstances: Circumstances) -> tuple[Seam, ...]:
    one_card = _ONE_CARD if circumstances.xpus == 1 else None
    return (
        Seam(
            name="blocking-copies",
            target=f"{MODEL_MANAGEMENT}:device_supports_non_blocking",
            replace=transfer.device_supports_non_blocking,
            reason="previews are read before they are copied, and integrated GPUs copy slowly",
            not_needed=_blocking_not_needed,
        ),
        Seam(
            name="offload-stream",
            target=f"{MODEL_MANAGEMENT}:get_offload_stream",
            replace=transfer.get_offload_stream,
            reason=_STREAMS,
            not_needed=lambda: one_card,
        ),
        Seam(
            name="offload-sync",
            target=f"{MODEL_MANAGEMENT}:sync_stream",
            replace=transfer.sync_stream,
            reason=_STREAMS,
            not_needed=lambda: one_card,
        ),
        Seam(
            name="current-stream",
            target=f"{MODEL_MANAGEMENT}:current_stream",
            replace=transfer.current_stream,
            reason=_STREAMS,
            not_needed=lambda: one_card if host.has("current_stream") else _NO_CURRENT_STREAM,
        ),
    )


def _error_seams() -> tuple[Seam, ...]:
    return (
        Seam(
            name="node-errors",
            target="execution:get_output_data",
            replace=faults.get_output_data,
            reason="Level Zero's errors reach the user as they are, and models are not unloaded",
            not_needed=lambda: None,
        ),
        Seam(
            name="oom-errors",
            target=f"{MODEL_MANAGEMENT}:is_oom",
            replace=faults.is_oom,
            reason="Level Zero's own out-of-memory errors stop what could go on in tiles",
            not_needed=lambda: None if host.has("is_oom") else _NO_IS_OOM,
        ),
        *(
            Seam(
                name=f"vae-{work}-oom",
                target=f"comfy.sd:VAE.{work}",
                replace=replace,
                reason=f"memory that runs out while the VAE is loaded ends its work ({work})",
                not_needed=lambda: None,
            )
            for work, replace in _VAE.items()
        ),
    )


# Row -> the host's function. Newer hosts have more of them.
_NARROW = {
    "fp8-compute": "supports_fp8_compute",
    "nvfp4-compute": "supports_nvfp4_compute",
    "mxfp8-compute": "supports_mxfp8_compute",
}

_VAE = {"decode": faults.vae_decode, "encode": faults.vae_encode}

_ROPE_USERS = ("comfy.ldm.flux.layers", "comfy.ldm.hidream.model")

_STREAMS = "weights that are offloaded with --async-offload are read too early on a second card"
_ONE_CARD = "there is one Intel GPU"
_NO_IS_OOM = "this ComfyUI asks at each place; vae-decode-oom and vae-encode-oom serve"
_HAS_FP64 = "this ComfyUI asks one function, which fp64 serves"
_NO_FP64 = "this ComfyUI asks at each place; rope serves"
_NO_CURRENT_STREAM = "this ComfyUI asks at each place; offload-stream and offload-sync serve"


def _one_maker(
    circumstances: Circumstances, function: str | None = None
) -> Callable[[], str | None]:
    """Why a row for machines with both makers' cards is left out, or None if it is needed."""

    def not_needed() -> str | None:
        if not circumstances.both_makers:
            return "torch offers no NVIDIA card beside the Intel GPU"
        if function is not None and not host.has(function):
            return "this ComfyUI has no such question"
        return None

    return not_needed


def _primary_not_needed(circumstances: Circumstances) -> str | None:
    if circumstances.both_makers or circumstances.primary.index:
        return None
    return "no card but the first was chosen"


def _bf16_not_needed() -> str | None:
    # Where it reads the driver's capabilities; is_bf16_supported also stands in CUDA's branch.
    if "get_device_capability" in host.names_used_by("should_use_bf16"):
        return None
    return "this ComfyUI asks torch itself"


def _blocking_not_needed() -> str | None:
    if "force_non_blocking" in host.names_used_by("device_supports_non_blocking"):
        return "this ComfyUI copies to Intel GPUs in order itself"
    return None
