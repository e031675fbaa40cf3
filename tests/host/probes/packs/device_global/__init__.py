"""A pack that chooses devices as ComfyUI-MultiGPU does; written for these tests.

It replaces the host's functions with its own, which answer a device that is a variable of this
module: at first what the host answers, and during a loader what the workflow names. Two of the
originals are kept and asked, under the attribute that ComfyUI-MultiGPU uses.
"""

from collections.abc import Callable
from typing import Any

import comfy.model_management as management
import torch

import nodes

chosen: dict[str, torch.device] = {
    name: getattr(management, name)()
    for name in ("get_torch_device", "text_encoder_device", "unet_offload_device")
}


def _answering(name: str) -> Callable[[], torch.device]:
    def answer() -> torch.device:
        return chosen[name]

    return answer


def _asking(original: Callable[..., Any]) -> Callable[..., Any]:
    def asking(*arguments: Any, **named: Any) -> Any:
        return original(*arguments, **named)

    asking._multigpu_original = original
    return asking


for _name in chosen:
    setattr(management, _name, _answering(_name))
for _name in ("soft_empty_cache", "current_stream"):
    if hasattr(management, _name):
        setattr(management, _name, _asking(getattr(management, _name)))


class DeviceGlobalCheckpointLoader(nodes.CheckpointLoaderSimple):
    """The host's loader while another device is chosen."""

    FUNCTION = "load_on"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        """The host's inputs and a device."""
        host_inputs = nodes.CheckpointLoaderSimple.INPUT_TYPES()["required"]
        return {"required": {**host_inputs, "device": ("STRING", {})}}

    def load_on(self, ckpt_name: str, device: str) -> Any:
        """Load with `device` as the host's own, then choose the former one again."""
        before = chosen["get_torch_device"]
        chosen["get_torch_device"] = torch.device(device)
        try:
            return self.load_checkpoint(ckpt_name)
        finally:
            chosen["get_torch_device"] = before


NODE_CLASS_MAPPINGS = {"DeviceGlobalCheckpointLoader": DeviceGlobalCheckpointLoader}
