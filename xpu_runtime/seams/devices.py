"""Rows: which device the host runs on, and which one a call is about."""

from ..decisions import primary
from ..seam import Seam
from .circumstances import BOTH_MAKERS, MODEL_MANAGEMENT, Circumstances, one_maker


def device_seams(circumstances: Circumstances) -> tuple[Seam, ...]:
    """The rows; most are for a process with both makers' cards."""
    chosen = circumstances.primary
    return (
        Seam(
            name="intel-or-not",
            target=f"{MODEL_MANAGEMENT}:is_intel_xpu",
            replace=primary.is_intel_xpu(chosen),
            reason=BOTH_MAKERS,
            not_needed=lambda: None,
        ),
        Seam(
            name="nvidia-or-not",
            target=f"{MODEL_MANAGEMENT}:is_nvidia",
            replace=primary.is_nvidia(chosen),
            reason=BOTH_MAKERS,
            not_needed=one_maker(circumstances),
        ),
        primary_seam(circumstances),
        Seam(
            name="device-name",
            target=f"{MODEL_MANAGEMENT}:get_torch_device_name",
            replace=primary.get_torch_device_name,
            reason=BOTH_MAKERS,
            not_needed=one_maker(circumstances),
        ),
        Seam(
            name="all-devices",
            target=f"{MODEL_MANAGEMENT}:get_all_torch_devices",
            replace=primary.all_devices,
            reason="only one maker's cards are seen",
            not_needed=one_maker(circumstances, "get_all_torch_devices"),
        ),
    )


def primary_seam(circumstances: Circumstances) -> Seam:
    """The row for the card that was chosen, the only one that NVIDIA's cards alone can need."""
    return Seam(
        name="primary-device",
        target=f"{MODEL_MANAGEMENT}:get_torch_device",
        replace=primary.primary_device(circumstances.primary),
        reason="COMFYUI_IPEX_DEVICE, and --default-device on Intel GPUs, have no effect",
        not_needed=lambda: _primary_not_needed(circumstances),
    )


def _primary_not_needed(circumstances: Circumstances) -> str | None:
    if circumstances.both_makers or circumstances.primary.index:
        return None
    return "no card but the first was chosen"
