"""Which device the host runs on, and which one a call is about."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def is_xpu(device: Any) -> bool:
    return getattr(device, "type", None) == "xpu"


def primary_device(index: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`get_torch_device` that answers the XPU of this index where it answered another XPU.

    The host asks torch for the current device, which each thread has its own of: what is set
    in the main thread does not reach the thread that runs workflows.
    """

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def get_torch_device() -> "torch.device":
            import torch

            device = original()
            return torch.device("xpu", index) if is_xpu(device) else device

        return get_torch_device

    return factory
