"""What a device computes in."""

from collections.abc import Callable
from typing import Any

from .. import host
from .primary import is_xpu


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
            return original(device, model_params, prioritize_performance, manual_cast)
        return not host.forces_fp32() and torch.xpu.is_bf16_supported()

    return replacement
