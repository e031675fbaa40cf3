"""Copies between a device and the machine's memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .. import host
from .primary import asking_about, is_xpu, kind_of


def device_supports_non_blocking(original: Callable[..., Any]) -> Callable[..., Any]:
    """Blocking copies to and from an XPU, unless the user asked for others."""

    def replacement(device: Any) -> bool:
        if is_xpu(device):
            return host.forces_non_blocking()
        with asking_about(kind_of(device)):
            return original(device)

    return replacement


def stream_of_its_card(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stream of the device that is asked about: its current one, or one that waits for it."""

    def replacement(device: Any) -> Any:
        with _on(device):
            return original(device)

    return replacement


def sync_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    """The device's own current stream waits for `stream`."""

    def replacement(device: Any, stream: Any) -> Any:
        with _on(device):
            return original(device, stream)

    return replacement


def _on(device: Any) -> AbstractContextManager[Any]:
    """The host asks for "the" current stream, which torch takes for the current card's."""
    if not is_xpu(device) or device.index is None:
        return nullcontext()
    import torch

    return torch.xpu.device(device)
