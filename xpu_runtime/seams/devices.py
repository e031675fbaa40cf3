"""Which device the host runs on, and which one a call is about.

The host asks once for the whole process whether it runs on an Intel or an NVIDIA GPU
(`is_intel_xpu`, `is_nvidia`). With both makers' cards in one process the right answer depends
on the device in question, so functions that are given one ask within `asking_about`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import host
from ..priority import Primary
from ..replacement import Factory
from ..seam import Seam

if TYPE_CHECKING:
    import torch

MODEL_MANAGEMENT = "comfy.model_management"

BOTH_MAKERS = "with an NVIDIA card beside it, the wrong maker's back end is asked"


@dataclass(frozen=True)
class Circumstances:
    """What the rows depend on in this process."""

    primary: Primary
    xpus: int
    """How many Intel GPUs torch offers."""
    both_makers: bool
    """torch offers CUDA devices beside the XPUs."""
    max_allocation: int | None
    """The user's own figure for the most bytes that one tensor may take."""


def one_maker(
    circumstances: Circumstances, function: str | None = None
) -> Callable[[], str | None]:
    """Why a row for machines with both makers' cards is left out, or None if it is needed."""

    def not_needed() -> str | None:
        if not circumstances.both_makers:
            return "torch offers no NVIDIA card beside the Intel GPU"
        if function is not None and not host.has(function):
            return "this ComfyUI has no such question"
        return None

    return not_needed


# Each thread has a context of its own, so that two workflows never see each other's.
_asked: ContextVar[str | None] = ContextVar("comfyui_ipex_asked", default=None)


def is_xpu(device: Any) -> bool:
    return getattr(device, "type", None) == "xpu"


@contextmanager
def asking_about(kind: str | None) -> Iterator[None]:
    """Within it the host's questions about "the" device mean one of this kind: "xpu", "cuda".

    None changes nothing.
    """
    token = _asked.set(kind or _asked.get())
    try:
        yield
    finally:
        _asked.reset(token)


def kind_of(device: Any) -> str | None:
    """The kind of a torch device; None where the host left it out and means its own."""
    return getattr(device, "type", None)


def primary_device(chosen: Primary) -> Factory:
    """`get_torch_device` that answers the chosen card: forced > CUDA > XPU > CPU.

    The host asks torch for the current device, which each thread has its own of: what is set
    in the main thread does not reach the thread that runs workflows.
    """

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def get_torch_device() -> "torch.device":
            import torch

            with asking_about(chosen.kind):
                device = original()
            # Not with --cpu and the like, where the host does without any GPU.
            if device.type not in ("cuda", "xpu"):
                return device
            if chosen.index is not None:
                return torch.device(chosen.kind, chosen.index)
            if device.type == chosen.kind:
                return device
            # The host makes a device of CUDA's bare index, which torch takes for the one
            # accelerator that it believes in; beside an XPU that need not be CUDA.
            return torch.device(chosen.kind, getattr(torch, chosen.kind).current_device())

        return get_torch_device

    return factory


def is_intel_xpu(chosen: Primary) -> Factory:
    """Whether the device in question is an XPU; without one in question, the host's own."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement() -> bool:
            return original() and (_asked.get() or chosen.kind) == "xpu"

        return replacement

    return factory


def is_nvidia(chosen: Primary) -> Factory:
    """Whether the device in question is NVIDIA's; without one in question, the host's own."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement() -> bool:
            return original() and (_asked.get() or chosen.kind) != "xpu"

        return replacement

    return factory


def get_torch_device_name(original: Callable[..., Any]) -> Callable[..., Any]:
    """A card's name from its own maker's back end."""

    def replacement(device: Any) -> Any:
        with asking_about(kind_of(device)):
            return original(device)

    return replacement


def all_devices(original: Callable[..., Any]) -> Callable[..., Any]:
    """Every card of both makers, in the order of priority, without repeating one."""

    def get_all_torch_devices(exclude_current: bool = False) -> "list[torch.device]":
        found = []
        for kind in ("cuda", "xpu"):
            with asking_about(kind):
                found += [device for device in original() if device.type == kind]
        if exclude_current:
            found = [device for device in found if device != host.primary_device()]
        return found

    return get_all_torch_devices


def device_seams(circumstances: Circumstances) -> tuple[Seam, ...]:
    """The rows; most are for a process with both makers' cards."""
    chosen = circumstances.primary
    return (
        Seam(
            name="intel-or-not",
            target=f"{MODEL_MANAGEMENT}:is_intel_xpu",
            replace=is_intel_xpu(chosen),
            reason=BOTH_MAKERS,
        ),
        Seam(
            name="nvidia-or-not",
            target=f"{MODEL_MANAGEMENT}:is_nvidia",
            replace=is_nvidia(chosen),
            reason=BOTH_MAKERS,
            not_needed=one_maker(circumstances),
        ),
        primary_seam(circumstances),
        Seam(
            name="device-name",
            target=f"{MODEL_MANAGEMENT}:get_torch_device_name",
            replace=get_torch_device_name,
            reason=BOTH_MAKERS,
            not_needed=one_maker(circumstances),
        ),
        Seam(
            name="all-devices",
            target=f"{MODEL_MANAGEMENT}:get_all_torch_devices",
            replace=all_devices,
            reason="only one maker's cards are seen",
            not_needed=one_maker(circumstances, "get_all_torch_devices"),
        ),
    )


def primary_seam(circumstances: Circumstances) -> Seam:
    """The row for the card that was chosen, the only one that NVIDIA's cards alone can need."""
    return Seam(
        name="primary-device",
        target=f"{MODEL_MANAGEMENT}:get_torch_device",
        replace=primary_device(circumstances.primary),
        reason="COMFYUI_IPEX_DEVICE, and --default-device on Intel GPUs, have no effect",
        not_needed=lambda: _primary_not_needed(circumstances),
    )


def _primary_not_needed(circumstances: Circumstances) -> str | None:
    if circumstances.both_makers or circumstances.primary.index:
        return None
    return "no card but the first was chosen"
