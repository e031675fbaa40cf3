"""Upscale models at a location: read from their file there, copied, or sent."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...inference import precision
from ...inference.cache import NETWORKS
from ...inference.facts import digest_of
from ...xpu_runtime import host
from ...xpu_runtime.managed_model import managed
from ...xpu_runtime.placement import Location, copied
from ...xpu_runtime.placement.location import Handle
from ...xpu_runtime.placement.modules import RemoteModule, locate_component, original_of
from . import loading
from .model import call_network, is_managed, manage, network_of, with_module

if TYPE_CHECKING:
    from ...xpu_runtime.host.types import Descriptor


class OtherWeightsError(ValueError):
    """The file at a path holds other weights than those that were loaded from it."""


@dataclass(frozen=True)
class DescriptorSource:
    """How a location comes by a descriptor with weights of its own."""

    request: str
    """The precision that the user asked for."""
    digest: str
    """Of the weights."""
    reload: "Callable[[], Descriptor] | None"
    """Reads the file again; None for models of other loaders."""
    descriptor: "Descriptor | None"
    """What is copied or sent where there is no file."""
    casts: bool
    """Whether the network does not take floats of any dtype yet."""

    def open(self) -> "Descriptor":
        """A descriptor that nobody else has, on the CPU.

        Raises `OtherWeightsError` if the file has changed, and what reading it raises.
        """
        if self.reload is None:
            assert self.descriptor is not None
            return with_module(self.descriptor, copied(self.descriptor.model))
        found = self.reload()
        if digest_of(found.model) != self.digest:
            raise OtherWeightsError(
                "The file of the upscale model has changed since ComfyUI loaded it. Run the "
                "workflow again: it is loaded anew then."
            )
        return found


def _source_of(descriptor: "Descriptor") -> DescriptorSource:
    if not is_managed(descriptor):
        plain = with_module(descriptor, descriptor.model)
        return DescriptorSource(precision.AUTO, "", None, plain, casts=True)
    network = network_of(descriptor)
    if network.reload is None:
        plain = with_module(descriptor, descriptor.model)
        return DescriptorSource(network.request, network.digest, None, plain, casts=False)
    return DescriptorSource(network.request, network.digest, network.reload, None, casts=True)


def locate(descriptor: "Descriptor") -> "tuple[Location, Handle]":
    """Where the model is, and the handle on its descriptor there."""
    return locate_component(descriptor, descriptor.model, lambda: network_of(descriptor).device)


def original(descriptor: "Descriptor") -> "Descriptor":
    """This process's own descriptor that `descriptor` is or stands for."""
    found: Descriptor = original_of(descriptor.model, descriptor)
    return found


def load(path: Path, location: Location, request: str) -> "Descriptor":
    """The model in `path` at `location`; loaded once while somebody has it.

    Raises `ModelFileError`, and `OSError` if there is no such file.
    """
    return NETWORKS.find(
        loading.load,
        [path],
        location,
        request,
        lambda: _load(path, location, request),
        lambda descriptor: network_of(original(descriptor)).digest,
    )


def _load(path: Path, location: Location, request: str) -> "Descriptor":
    own = loading.load(path)
    reload = functools.partial(loading.load, path)
    manage(own, location.home(host.primary_device), request, reload=reload)
    found: Descriptor = location.carry(own, lambda: place(own, location, None))
    return found


def place(
    descriptor: "Descriptor", location: Location, offload_device: torch.device | None
) -> "Descriptor":
    """A descriptor of the same model at `location`, with weights of its own, in its precision.

    `offload_device` None keeps the weights where that process keeps models while they are not
    needed. Elsewhere than here the worker reads the same file where that is known; the weights are
    sent to it otherwise.
    """
    own = original(descriptor)
    handle = location.hold(open_descriptor, _source_of(own), location.device, offload_device)

    def proxy(handle: "Handle") -> "Descriptor":
        module = RemoteModule(location, handle, call_network, own, "The upscale model")
        stand_in = with_module(own, module)
        # Newer hosts load it before they call the model; here there is next to nothing to load.
        stand_in.patcher = managed(module, host.primary_device())
        return stand_in

    found: Descriptor = location.expose(handle, proxy)
    return found


def open_descriptor(
    source: DescriptorSource, device: torch.device, offload_device: torch.device | None
) -> "Descriptor":
    """At the location: the descriptor under the host's memory management, on `device`."""
    descriptor = source.open()
    manage(
        descriptor,
        device,
        source.request,
        offload_device=offload_device,
        reload=source.reload,
        casts=source.casts,
    )
    return descriptor
