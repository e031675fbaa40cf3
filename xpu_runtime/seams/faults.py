"""Rows: what follows from an Intel driver's errors."""

from .. import host
from ..decisions import faults
from ..seam import Seam
from .circumstances import MODEL_MANAGEMENT

_NO_IS_OOM = "this ComfyUI asks at each place; vae-decode-oom and vae-encode-oom serve"
_HAS_IS_OOM = "this ComfyUI asks one function, which oom-errors serves"


def fault_seams() -> tuple[Seam, ...]:
    return (
        Seam(
            name="oom-errors",
            target=f"{MODEL_MANAGEMENT}:is_oom",
            replace=faults.is_oom,
            reason="Level Zero's own out-of-memory errors stop what could go on in tiles",
            not_needed=lambda: None if host.has("is_oom") else _NO_IS_OOM,
        ),
        Seam(
            name="vae-decode-oom",
            target="comfy.sd:VAE.decode",
            replace=faults.vae_decode,
            reason="Level Zero's own out-of-memory errors stop VAE decoding",
            not_needed=lambda: _HAS_IS_OOM if host.has("is_oom") else None,
        ),
        Seam(
            name="vae-encode-oom",
            target="comfy.sd:VAE.encode",
            replace=faults.vae_encode,
            reason="Level Zero's own out-of-memory errors stop VAE encoding",
            not_needed=lambda: _HAS_IS_OOM if host.has("is_oom") else None,
        ),
    )
