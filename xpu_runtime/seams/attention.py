"""Rows: attention within what an Intel GPU grants."""

from ..attention_plan import has_fused_attention
from ..decisions import attention
from ..memory import MemoryReader
from ..seam import Seam
from .circumstances import MODEL_MANAGEMENT

ATTENTION = "comfy.ldm.modules.attention"

# Modules take the attention that was chosen by value. The host loads its own nodes by their path.
_COPIES_OF_ATTENTION = tuple(
    f"{module}:{name}"
    for module in ("comfy.*", "*comfy_extras*")
    for name in ("optimized_attention", "optimized_attention_masked")
)


def attention_seams(reader: MemoryReader, max_allocation: int | None) -> tuple[Seam, ...]:
    """The rows; all share one limit."""
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


def _fused_attention() -> str | None:
    import torch

    return "this torch's attention is fused" if has_fused_attention(torch.__version__) else None
