"""Attention on an XPU: no matrix of scores is larger than the device's limit."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import host
from ..replacement import Factory
from ..seam import Seam
from .attention_in_parts import (
    as_rank_two,
    bounded_sdpa,
    can_be_sliced,
    sliced_attention,
    sliced_bytes,
)
from .attention_limits import SCORE_BYTES, UNCHECKED_BYTES, has_fused_attention, score_limit
from .devices import MODEL_MANAGEMENT, is_xpu
from .memory import MemoryReader, largest_allocation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LimitFor = Callable[["torch.device"], int]
"""The most bytes that one matrix of scores may take on a device now, as `score_limit` says."""

_UNCHECKED_SCORES = UNCHECKED_BYTES // SCORE_BYTES


def attention_limit(reader: MemoryReader, stated: int | None) -> LimitFor:
    """How many bytes one matrix of attention scores may take on a device now.

    `stated` is the user's own figure for the largest allocation, in bytes.
    """

    def limit_for(device: "torch.device") -> int:
        import torch

        properties = torch.xpu.get_device_properties(device)
        granted = largest_allocation(properties, stated)
        return score_limit(granted, reader.free(device).total)

    return limit_for


def scaled_dot_product_attention(limit_for: LimitFor) -> Factory:
    """torch's SDPA in parts that fit.

    `limit_for` is asked only when a call's scores exceed UNCHECKED_BYTES. Calls on every other
    device, and small ones without a mask, reach the original argument for argument.
    """

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        # Parameters as open as these: the original is a built-in that states no signature.
        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> "Tensor":
            query = args[0] if args else kwargs.get("query")
            # is_xpu takes a twelfth of the time that device.type takes.
            if query is None or not query.is_xpu:
                return original(*args, **kwargs)
            return sdpa_on_xpu(original, limit_for, *args, **kwargs)

        return replacement

    return factory


def sdpa_on_xpu(
    original: Callable[..., "Tensor"],
    limit_for: LimitFor,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    *args: Any,
    **kwargs: Any,
) -> "Tensor":
    """SDPA of tensors that are on an XPU: in parts if the scores need them. See the factory above.

    Public for the benchmark, which calls it beside the kernels of other devices.
    """
    # scores = numel / e * keys; multiplied out, it needs no division by an e of 0.
    if query.numel() * key.shape[-2] > _UNCHECKED_SCORES * query.shape[-1]:
        limit = limit_for(query.device)
        return bounded_sdpa(original, query, key, value, *args, limit=limit, **kwargs)
    if args:
        args = (as_rank_two(args[0], query), *args[1:])
    elif kwargs.get("attn_mask") is not None:
        kwargs["attn_mask"] = as_rank_two(kwargs["attn_mask"], query)
    return original(query, key, value, *args, **kwargs)


def efficient_dot_product_attention(limit_for: LimitFor) -> Factory:
    """The core of sub-quadratic attention, in slices that fit.

    The host chooses slices by free memory alone. Calls whose scores take at most
    UNCHECKED_BYTES keep the host's choice.
    """

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(
            query: "Tensor",
            key_t: "Tensor",
            value: "Tensor",
            query_chunk_size: int = 1024,
            kv_chunk_size: int | None = None,
            kv_chunk_size_min: int | None = None,
            use_checkpoint: bool = True,
            upcast_attention: bool = False,
            mask: "Tensor | None" = None,
        ) -> "Tensor":
            if (
                query.is_xpu
                and sliced_bytes(query, key_t, upcast_attention) > UNCHECKED_BYTES
                and can_be_sliced(query, key_t, value, mask)
            ):
                limit = limit_for(query.device)
                tensors = (query, key_t, value, mask)
                return sliced_attention(original, *tensors, upcast_attention, limit=limit)
            chunks = (query_chunk_size, kv_chunk_size, kv_chunk_size_min)
            options = (use_checkpoint, upcast_attention, mask)
            return original(query, key_t, value, *chunks, *options)

        return replacement

    return factory


def attention_split(original: Callable[..., Any]) -> Callable[..., Any]:
    """Split attention by way of the host's sub-quadratic one, which computes the same.

    The host's own sizes its steps by free memory alone, takes one step if the tokens do not
    divide by their number, and gives up above 64 steps with an error that is no
    out-of-memory error.
    """

    def replacement(
        q: Any,
        k: Any,
        v: Any,
        heads: int,
        mask: "Tensor | None" = None,
        attn_precision: "torch.dtype | None" = None,
        skip_reshape: bool = False,
        skip_output_reshape: bool = False,
        **kwargs: Any,
    ) -> "Tensor":
        # Newer hosts also pass tensors in containers, which attention takes them out of.
        tensor = getattr(q, "tensor", q)
        on_xpu = getattr(tensor, "is_xpu", False)
        attention = host.sub_quadratic_attention() if on_xpu else original
        options = (mask, attn_precision, skip_reshape, skip_output_reshape)
        return attention(q, k, v, heads, *options, **kwargs)

    return replacement


def slice_attention(limit_for: LimitFor) -> Factory:
    """The VAE's own attention, in slices that fit.

    The host's sizes its steps by free memory alone, and finds the rest out by running out of
    memory. It is the sliced attention of a single head, with all but the queries transposed.
    """

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(q: "Tensor", k: "Tensor", v: "Tensor") -> "Tensor":
            value = v.transpose(1, 2)
            if not (q.is_xpu and can_be_sliced(q, k, value, None)):
                return original(q, k, v)
            small = sliced_bytes(q, k, upcast_attention=False) <= UNCHECKED_BYTES
            limit = UNCHECKED_BYTES if small else limit_for(q.device)
            attention = host.efficient_dot_product_attention()
            return (
                sliced_attention(attention, q, k, value, limit=limit).transpose(1, 2).contiguous()
            )

        return replacement

    return factory


def pytorch_attention_flash_attention(original: Callable[..., Any]) -> Callable[..., Any]:
    """No flash attention where the host runs on an XPU: for torch whose XPU has no such kernel."""

    def replacement() -> bool:
        return False if is_xpu(host.primary_device()) else original()

    return replacement


ATTENTION = "comfy.ldm.modules.attention"

# Modules take the attention that was chosen by value. The host loads its own nodes by their path.
_COPIES_OF_ATTENTION = tuple(
    f"{module}:{name}"
    for module in ("comfy.*", "*comfy_extras*")
    for name in ("optimized_attention", "optimized_attention_masked")
)


def attention_seams(reader: MemoryReader, max_allocation: int | None) -> tuple[Seam, ...]:
    """The rows; all share one limit."""
    limit_for = attention_limit(reader, max_allocation)
    return (
        Seam(
            name="bounded-attention",
            target="torch.nn.functional:scaled_dot_product_attention",
            replace=scaled_dot_product_attention(limit_for),
            reason="attention asks for more than an Intel GPU grants at once (4 GiB)",
        ),
        Seam(
            name="sub-quadratic-attention",
            # Looked up at every call, so that copies of attention_sub_quad do not matter.
            target=f"{ATTENTION}:efficient_dot_product_attention",
            replace=efficient_dot_product_attention(limit_for),
            reason="--use-quad-cross-attention asks for more than an Intel GPU grants at once",
        ),
        Seam(
            name="split-attention",
            target=f"{ATTENTION}:attention_split",
            replace=attention_split,
            reason="--use-split-cross-attention asks for more than an Intel GPU grants at once, "
            "or gives up",
            also=_COPIES_OF_ATTENTION,
        ),
        Seam(
            name="vae-attention",
            target="comfy.ldm.modules.diffusionmodules.model:slice_attention",
            replace=slice_attention(limit_for),
            reason="a VAE's own attention asks for more than an Intel GPU grants at once",
        ),
        Seam(
            name="flash-attention-assumption",
            target=f"{MODEL_MANAGEMENT}:pytorch_attention_flash_attention",
            replace=pytorch_attention_flash_attention,
            reason="too little memory is kept free for attention, which then runs out of it",
            not_needed=_fused_attention,
        ),
    )


def _fused_attention() -> str | None:
    import torch

    return "this torch's attention is fused" if has_fused_attention(torch.__version__) else None
