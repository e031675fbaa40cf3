"""Copies between a device and the machine's memory."""

from collections.abc import Callable
from typing import Any

from .. import host
from .primary import is_xpu


def device_supports_non_blocking(original: Callable[..., Any]) -> Callable[..., Any]:
    """Blocking copies to and from an XPU, unless the user asked for others."""

    def replacement(device: Any) -> bool:
        if is_xpu(device):
            return host.forces_non_blocking()
        return original(device)

    return replacement
