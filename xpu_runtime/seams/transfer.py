"""Rows: copies between a device and the machine's memory."""

from .. import host
from ..decisions import transfer
from ..seam import Seam
from .circumstances import MODEL_MANAGEMENT, Circumstances

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
            replace=transfer.device_supports_non_blocking,
            reason="previews are read before they are copied, and integrated GPUs copy slowly",
            not_needed=lambda: None if circumstances.both_makers else _blocking_not_needed(),
        ),
        Seam(
            name="offload-stream",
            target=f"{MODEL_MANAGEMENT}:get_offload_stream",
            replace=transfer.stream_of_its_card,
            reason=_STREAMS,
            not_needed=lambda: one_card,
        ),
        Seam(
            name="offload-sync",
            target=f"{MODEL_MANAGEMENT}:sync_stream",
            replace=transfer.sync_stream,
            reason=_STREAMS,
            not_needed=lambda: one_card,
        ),
        Seam(
            name="current-stream",
            target=f"{MODEL_MANAGEMENT}:current_stream",
            replace=transfer.stream_of_its_card,
            reason=_STREAMS,
            not_needed=lambda: one_card if host.has("current_stream") else _NO_CURRENT_STREAM,
        ),
    )


def _blocking_not_needed() -> str | None:
    if "force_non_blocking" in host.names_used_by("device_supports_non_blocking"):
        return "this ComfyUI copies to Intel GPUs in order itself"
    return None
