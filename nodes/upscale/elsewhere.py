"""Upscale models whose network runs in a worker."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from ...inference import precision
from ...inference.weight_files import casting
from ...xpu_runtime import host, managed_model
from ...xpu_runtime.placement import Handle, Held, Here, Location, There
from ...xpu_runtime.workers import NotOnWorkerError, Resident
from . import upscaler

_ATTRIBUTE = "ipex_on_worker"

_Function = TypeVar("_Function", bound=Callable[..., Any])


class OtherWeightsError(ValueError):
    """The file at a path holds other weights for the worker than it did for the host."""


class WorkerModule(nn.Module):
    """Stands for a network that a worker runs; takes and gives tensors on any device."""

    def __init__(self, resident: Resident) -> None:
        super().__init__()
        self.resident = resident
        # Other nodes move descriptors around, and ask this for their device and dtype.
        self.place = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, *inputs: Any) -> Any:
        """The network's answer, on the device and in the dtype of the first input."""
        answer = self.resident.worker.call(called, self.resident, *inputs)
        return answer.to(inputs[0])

    def __getattr__(self, name: str) -> Any:
        """What a module has. Raises `NotOnWorkerError` for what only the network has."""
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if name.startswith("_"):
                raise
            worker = self.resident.worker.plan.name
            raise NotOnWorkerError("The upscale model", f"model.{name}", worker) from error


def placed(descriptor: Any, place: There, offload: torch.device | None) -> Any:
    """A descriptor of the same model, with all its attributes, whose network a worker runs.

    The worker reads the weights from the same file where that is known, and they are sent to it
    otherwise.
    """
    descriptor = own(descriptor)
    resident = Resident(place.worker, made, _Sent(descriptor), place.device, offload)
    module = WorkerModule(resident)
    proxy = upscaler.with_module(descriptor, module)
    # Newer hosts load it before they call the model; here there is next to nothing to load.
    proxy.patcher = managed_model.managed(module, host.primary_device())
    setattr(proxy, _ATTRIBUTE, (descriptor, resident))
    return proxy


def own(descriptor: Any) -> Any:
    """This process's descriptor that `descriptor` is or stands for."""
    return getattr(descriptor, _ATTRIBUTE, (descriptor, None))[0]


def resident_of(descriptor: Any) -> Resident | None:
    """What a worker keeps of `descriptor`; None if it is no proxy."""
    found: Resident | None = getattr(descriptor, _ATTRIBUTE, (None, None))[1]
    return found


def locate(descriptor: Any) -> tuple[Location, Handle]:
    """Where the model is, and the handle on its descriptor there."""
    resident = resident_of(descriptor)
    if resident is None:
        return Here(host.primary_device()), Held(descriptor)
    return There(resident.worker, resident.arguments[1]), resident


def where_it_is(function: _Function) -> _Function:
    """Have `function`, whose first argument is a descriptor, run where its network is.

    Its other arguments and its answer cross as they are.
    """

    @functools.wraps(function)
    def run(descriptor: Any, *arguments: Any, **named: Any) -> Any:
        resident = resident_of(descriptor)
        if resident is None:
            return function(descriptor, *arguments, **named)
        return resident.worker.call(run, resident, *arguments, **named)

    return run  # type: ignore[return-value]


class _Sent:
    """Crosses as a descriptor with weights of its own: read from the same file, or sent."""

    def __init__(self, descriptor: Any) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> Any:
        """How the pickler takes it."""
        known = upscaler.known_of(self._descriptor)
        if known is not None and known.again is not None:
            return (from_file, (known.again, known.digest, known.request))
        module = self._descriptor.model
        return (as_sent, (upscaler.with_module(self._descriptor, module), known is not None))


def from_file(again: Callable[[], Any], digest: str, request: str) -> tuple[Any, str, Any]:
    """In the worker: a descriptor, the precision that was asked for, and how it was loaded.

    Raises `OtherWeightsError` if the file is not the one that the host has read.
    """
    found = again()
    if casting.digest_of(found.model) != digest:
        raise OtherWeightsError(
            "The file of the upscale model has changed since ComfyUI loaded it. Run the workflow "
            "again: it is loaded anew then."
        )
    casting.attach(found.model)
    return found, request, again


def as_sent(descriptor: Any, is_prepared: bool) -> tuple[Any, str, Any]:
    """In the worker: the same, for a descriptor that came whole."""
    if not is_prepared:
        casting.attach(descriptor.model)
    return descriptor, precision.AUTO, None


def made(loaded: tuple[Any, str, Any], device: torch.device, offload: torch.device | None) -> Any:
    """In the worker: the descriptor under its host's memory management, on `device`."""
    descriptor, request, again = loaded
    return upscaler.manage(descriptor, device, offload, request, again)


def called(descriptor: Any, *inputs: Any) -> Any:
    """In the worker: one call of the network, as other packs' nodes make it."""
    return upscaler.run_network(descriptor, inputs)
