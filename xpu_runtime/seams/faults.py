"""Rows: what follows from an Intel driver's errors."""

from .. import host
from ..decisions import faults
from ..seam import Seam
from .circumstances import MODEL_MANAGEMENT

_NO_IS_OOM = "this ComfyUI asks at each place; vae-decode-oom and vae-encode-oom serve"

_VAE = {"decode": faults.vae_decode, "encode": faults.vae_encode}


def fault_seams() -> tuple[Seam, ...]:
    """The rows."""
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
