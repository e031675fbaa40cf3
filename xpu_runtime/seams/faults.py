"""Rows: what follows from an Intel driver's errors."""

import functools
import inspect

from .. import host
from ..decisions import faults
from ..seam import Seam
from .circumstances import MODEL_MANAGEMENT

_NO_IS_OOM = "this ComfyUI asks at each place; vae-decode-oom and vae-encode-oom serve"

_UPSCALE_NODE = "ImageUpscaleWithModel"

_VAE = {"decode": faults.vae_decode, "encode": faults.vae_encode}

# The method of the host's node class: V1 nodes have the first, V3 nodes the second, and the
# first as another name of it.
_UPSCALE = {"upscale-errors": "upscale", "upscale-node-errors": "execute"}

_OTHER_KIND = "this ComfyUI's node has another method; upscale-errors serves"


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
        *(
            Seam(
                name=name,
                target=f"nodes:NODE_CLASS_MAPPINGS[{_UPSCALE_NODE}].{method}",
                replace=faults.upscale_with_model,
                reason="after an error or an interrupt the host's upscale model stays on the card",
                not_needed=functools.partial(_upscale_not_needed, method),
            )
            for name, method in _UPSCALE.items()
        ),
    )


def _upscale_not_needed(method: str) -> str | None:
    node = host.node_class(_UPSCALE_NODE)
    function = inspect.getattr_static(node, method, None)
    if function is None:
        return "ComfyUI's own node is not loaded" if node is None else _OTHER_KIND
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is not None and "load_models_gpu" in code.co_names:
        return "this ComfyUI manages the memory of upscale models itself"
    return None
