"""Copies between a device and the machine's memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .. import host
from ..seam import Seam
from .devices import MODEL_MANAGEMENT, Circumstances, asking_about, is_xpu, kind_of


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


_STREAMS = "weights that are offloaded with --async-offload are read too early on a second card"
_ONE_CARD = "there is one Intel GPU"
_NO_CURRENT_STREAM = "this ComfyUI asks at each place; offload-stream and offload-sync serve"


def transfer_seams(circumstances: Circumstances) -> tuple[Seam, ...]:
    """The rows; those about streams are for more than one Intel GPU."""
    one_card = _ONE_CARD if circumstances.xpus == 1 else None
    return (
        Seam(
            name="blocking-copies",
            target=f"{MODEL_MANAGEMENT}:device_supports_non_blocking",
            replace=device_supports_non_blocking,
            reason="previews are read before they are copied, and integrated GPUs copy slowly",
            not_needed=lambda: None if circumstances.both_makers else _blocking_not_needed(),
        ),
        Seam(
            name="offload-stream",
            target=f"{MODEL_MANAGEMENT}:get_offload_stream",
            replace=stream_of_its_card,
            reason=_STREAMS,
            not_needed=lambda: one_card,
        ),
        Seam(
            name="offload-sync",
            target=f"{MODEL_MANAGEMENT}:sync_stream",
            replace=sync_stream,
            reason=_STREAMS,
            not_needed=lambda: one_card,
        ),
        Seam(
            name="current-stream",
            target=f"{MODEL_MANAGEMENT}:current_stream",
            replace=stream_of_its_card,
            reason=_STREAMS,
            not_needed=lambda: one_card if host.has("current_stream") else _NO_CURRENT_STREAM,
        ),
    )


def _blocking_not_needed() -> str | None:
    if "force_non_blocking" in host.names_used_by("device_supports_non_blocking"):
        return "this ComfyUI copies to Intel GPUs in order itself"
    return None
