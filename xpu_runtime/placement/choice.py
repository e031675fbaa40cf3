"""What a device widget means in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import devices, host, workers
from ..log import LOGGER


@dataclass(frozen=True)
class Choice:
    """A device for one component."""

    device: Any
    """A `torch.device`, or the `workers.Place` of a worker's device."""
    warning: str = ""
    """Why it is not the one that was asked for; "" if it is."""

    @property
    def place(self) -> "workers.Place | None":
        """The device if it is a worker's."""
        return self.device if isinstance(self.device, workers.Place) else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warning, if there is one."""
        return (self.warning,) if self.warning else ()


@dataclass(frozen=True)
class Placed:
    """A component on its device, and what a user should know about that."""

    result: Any
    device: Any
    offload_device: Any
    """Where its weights are while they are not needed; None where there is no such place."""
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For the node: where it runs, and what is not as it was asked for."""
        return "\n".join([f"Runs on {self.device}.", *self.warnings])


def choose(request: str, component: str, auto: Callable[[], Any]) -> Choice:
    """The device that `request` means; `auto()` for "auto", and with a warning if it is absent.

    The warning is logged as well. Raises `ValueError` if `request` is no device name.
    """
    import torch

    if request == devices.AUTO:
        return Choice(auto())
    available = (*devices.discover(), *devices.of_workers())
    found = devices.find(request, available)
    if found is not None and "@" in found:
        return Choice(workers.place_of(found))
    if found is not None:
        return Choice(torch.device(found))
    chosen = auto()
    there = ", ".join(device.name for device in available)
    reason = f"{component} is set to {request!r}, which this machine does not have (it has {there})"
    return Choice(chosen, warned(f"{reason}. It runs on auto ({chosen}) instead."))


def choose_offload(request: str, component: str, own: Any) -> Choice:
    """The device that keeps `component` while it is not needed; `own` for "auto".

    Raises `ValueError` if `request` is no device name.
    """
    return choose(request, f"the offload device of {component}", lambda: own)


def warned(text: str) -> str:
    """`text`, which is also a warning in the log."""
    LOGGER.warning("Select Device: %s", text)
    return text[0].upper() + text[1:]


def device_for(request: str, component: str) -> Any:
    """The torch device that a device widget means, where the host's own choice is its main one.

    Raises `ValueError` if `request` is no device name, or names a worker's device.
    """
    chosen = choose(request, component, host.primary_device)
    if chosen.place is not None:
        raise ValueError(
            f"{component} cannot be made on {chosen.place}, which is another process. Choose a "
            "device of this one here, and the worker's in a Select Device node behind it."
        )
    return chosen.device


def offload_of(request: str, place: "workers.Place", component: str) -> tuple[str, str]:
    """The offload device of what is placed on a worker, as the worker calls it, and a warning.

    A worker cannot keep weights in another process. Raises `ValueError` if `request` is no
    device name.
    """
    chosen = choose_offload(request, component, devices.AUTO)
    if chosen.device in (devices.AUTO, place) or chosen.warning:
        return str(getattr(chosen.device, "device", devices.AUTO)), chosen.warning
    if str(chosen.device) == devices.CPU:
        return devices.CPU, ""
    other = chosen.place
    if other is not None and other.worker is place.worker:
        return other.device, ""
    reason = f"the worker {place.worker.plan.name!r} cannot keep {component} on {chosen.device}"
    return devices.AUTO, warned(f"{reason}. It is kept where the worker keeps models.")
