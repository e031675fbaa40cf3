"""What the device widgets of a component mean in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import devices, host, workers
from ..log import LOGGER
from .location import Here, Location, There

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Located:
    """Where one component is to run."""

    location: Location
    warning: str = ""
    """Why it is not the device that was asked for; "" if it is."""


@dataclass(frozen=True)
class Offload:
    """The device that has the weights of one component while they are not needed."""

    device: "torch.device | None"
    """As the process at the component's location calls it. None: where that process keeps
    models of this kind."""
    warning: str = ""
    """Why it is not the device that was asked for; "" if it is."""


@dataclass(frozen=True)
class Placed:
    """A component at its location, and what a user should know about that."""

    result: Any
    location: Location
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For the node: where it runs, and what is not as it was asked for."""
        return "\n".join([f"Runs on {self.location}.", *self.warnings])


def choose(request: str, component: str, auto: "Callable[[], torch.device]") -> Located:
    """The location that `request` names; `auto()` for "auto", and with a warning if it is absent.

    The warning is logged as well. Raises `ValueError` if `request` is no device name.
    """
    if request == devices.AUTO:
        return Located(Here(auto()))
    found = _find(request)
    if found is not None:
        return Located(found)
    chosen = auto()
    return Located(Here(chosen), _absent(request, component, f"It runs on auto ({chosen}) instead"))


def choose_offload(request: str, component: str, location: Location) -> Offload:
    """The device that keeps `component`, which runs at `location`, while it is not needed.

    The process at `location` must have it: weights are not kept in another one. A request that
    cannot be met is a warning. Raises `ValueError` if `request` is no device name.
    """
    if request == devices.AUTO:
        return Offload(None)
    found = _find(request)
    name = f"the offload device of {component}"
    if found is None:
        return Offload(None, _absent(request, name, "It is kept where 'auto' keeps it instead"))
    device = location.local_device(found)
    if device is not None:
        return Offload(device)
    reason = f"{component} runs on {location} and cannot be kept on {found}, in another process"
    return Offload(None, warned(f"{reason}. It is kept where 'auto' keeps it instead."))


def device_for(request: str, component: str) -> "torch.device":
    """The torch device that a device widget means, where the host's own choice is its main one.

    Raises `ValueError` if `request` is no device name, or names a worker's device.
    """
    location = choose(request, component, host.primary_device).location
    if isinstance(location, There):
        raise ValueError(
            f"{component} cannot be made on {location}, which is another process. Choose a "
            "device of this one here, and the worker's in a Select Device node behind it."
        )
    return location.device


def _find(request: str) -> Location | None:
    """None if no process has the device. Raises `ValueError` if `request` is no device name."""
    import torch

    found = devices.find(request, list_devices())
    if found is None:
        return None
    device, _, worker = found.partition("@")
    if worker:
        return There(workers.find(worker), torch.device(device))
    return Here(torch.device(device))


def list_devices() -> tuple[devices.Device, ...]:
    """This process's devices, then its workers'."""
    return (*devices.discover(), *workers.devices())


def device_menu() -> list[str]:
    """The choices of a "device" widget: "auto", then every device."""
    return [devices.AUTO, *(device.entry for device in list_devices())]


def _absent(request: str, component: str, instead: str) -> str:
    there = ", ".join(device.name for device in list_devices())
    reason = f"{component} is set to {request!r}, which this machine does not have (it has {there})"
    return warned(f"{reason}. {instead}.")


def warned(text: str) -> str:
    """`text`, which is also a warning in the log."""
    LOGGER.warning("Select Device: %s", text)
    return text[0].upper() + text[1:]
