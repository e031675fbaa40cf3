"""Any network under the host's memory management, all or nothing.

The host loads its own networks in parts when memory is short, and gives parts back under
pressure. A network that was not built from the host's layers cannot run in parts: with some of
its weights elsewhere, its forward call fails. Its patcher therefore loads whole or raises, and
gives back whole.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import host

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .host.types import ModelPatcher


@functools.cache
def _patcher_class() -> Any:
    """The class, made when it is first needed: its base belongs to the host."""
    base: Any = host.model_patcher_class()

    class WholeModelPatcher(base):  # type: ignore[misc]
        """A ModelPatcher whose module is on one device, always.

        Where it is is read from the weights: other nodes move a descriptor's module by
        themselves.
        """

        def current_loaded_device(self) -> "torch.device":
            return device_of(self.model, self.offload_device)

        def loaded_size(self) -> int:
            """All bytes of the weights, or 0 while they are off the load device."""
            return int(self.model_size()) if self._is_loaded() else 0

        def partially_load(self, device_to: "torch.device", *_: object, **__: object) -> int:
            """Load everything. Returns the bytes that were loaded; raises if they do not fit."""
            if self._is_loaded():
                self._note(device_to)
                return 0
            try:
                self.model.to(device_to)
            except BaseException:
                # Some parameters may have moved already.
                self.model.to(self.offload_device)
                self._note(self.offload_device)
                raise
            self._note(device_to)
            return int(self.model_size())

        def partially_unload(self, *_: object, **__: object) -> int:
            """Nothing: the host then unloads the model whole."""
            return 0

        def _is_loaded(self) -> bool:
            return bool(self.current_loaded_device() == self.load_device)

        def _note(self, device: "torch.device") -> None:
            """Keep the figures that the host's own methods read in agreement."""
            loaded = device == self.load_device
            self.model.device = device
            self.model.model_lowvram = False
            self.model.model_loaded_weight_memory = self.model_size() if loaded else 0
            self.model.current_weight_patches_uuid = self.patches_uuid if loaded else None

    return WholeModelPatcher


def device_of(module: "nn.Module", otherwise: "torch.device") -> "torch.device":
    weight = next(module.parameters(), None)
    return otherwise if weight is None else weight.device


def managed(
    module: "nn.Module", load_device: "torch.device", offload_device: "torch.device | None" = None
) -> "ModelPatcher":
    """A patcher (of the host's ModelPatcher) for `module`, which is on the CPU now.

    While it is not loaded, its weights are on `offload_device`: by default where the host
    keeps models.
    """
    # The host writes attributes to what it manages; a read-only property is in its way.
    is_taken = isinstance(getattr(type(module), "device", None), property)
    managed_module = _holder_class()(module) if is_taken else module
    patcher: ModelPatcher = _patcher_class()(
        managed_module, load_device, offload_device or host.offload_device()
    )
    return patcher


@functools.cache
def _holder_class() -> "type[nn.Module]":
    import torch

    class NetworkHolder(torch.nn.Module):
        """A module around a network that has a property of its own where the host writes."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

    return NetworkHolder


@contextmanager
def resident(patcher: "ModelPatcher", memory_required: int) -> Iterator[None]:
    """The model is on its device, with `memory_required` bytes beside it if they can be freed.

    It stays there for the next run, and the host evicts it when it needs the memory. After an
    error or an interrupt it is off the device.
    """
    try:
        host.load_whole(patcher, memory_required)
        yield
    except BaseException:
        host.unload(patcher)
        raise
