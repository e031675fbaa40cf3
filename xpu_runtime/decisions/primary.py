"""Which device the host runs on, and which one a call is about.

The host asks once for the whole process whether it runs on an Intel or an NVIDIA GPU
(`is_intel_xpu`, `is_nvidia`). With both makers' cards in one process the right answer depends
on the device in question, so functions that are given one ask within `asking_about`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..priority import Primary

if TYPE_CHECKING:
    import torch

# Each thread has a context of its own, so that two workflows never see each other's.
_asked: ContextVar[str | None] = ContextVar("comfyui_ipex_asked", default=None)


def is_xpu(device: Any) -> bool:
    """Whether `device` is a torch device of Intel's."""
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


def primary_device(chosen: Primary) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
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


def is_intel_xpu(chosen: Primary) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Whether the device in question is an XPU; without one in question, the host's own."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement() -> bool:
            return original() and (_asked.get() or chosen.kind) == "xpu"

        return replacement

    return factory


def is_nvidia(chosen: Primary) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
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
            from .. import host

            found = [device for device in found if device != host.primary_device()]
        return found

    return get_all_torch_devices
