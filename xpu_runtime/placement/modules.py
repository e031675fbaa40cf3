"""A network's module in this process that a worker computes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..workers import NotOnWorkerError
from .location import Handle, Held, Here, Location, There


class RemoteModule(nn.Module):
    """Stands for a network at a location; takes and gives tensors on any device."""

    def __init__(
        self,
        location: Location,
        handle: Handle,
        call: Callable[..., Any],
        original: object,
        owner: str,
    ) -> None:
        """`call(what the handle holds, *inputs)` computes.

        `original` is the component of this process that was placed, `owner` its name in errors.
        """
        super().__init__()
        assert isinstance(location, There)
        self.location = location
        self.handle = handle
        self.original = original
        self._call = call
        self._owner = owner
        # Other nodes move descriptors around, and ask this for their device and dtype.
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, *inputs: Any) -> Tensor:
        """The network's answer, on the device and in the dtype of the first input."""
        answer: Tensor = self.location.call(self._call, self.handle, *inputs)
        return answer.to(inputs[0])

    def __getattr__(self, name: str) -> Any:
        """What a module has. Raises `NotOnWorkerError` for what only the network has."""
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if name.startswith("_"):
                raise
            worker = self.location.worker.plan.name
            raise NotOnWorkerError(self._owner, f"model.{name}", worker) from error


def locate_component(
    component: Any, module: nn.Module, device: Callable[[], torch.device]
) -> tuple[Location, Handle]:
    """Where the network is that `module` is or stands for, and a handle on its component.

    `device()` is where a network of this process runs.
    """
    if isinstance(module, RemoteModule):
        return module.location, module.handle
    return Here(device()), Held(component)


def original_of(module: nn.Module, component: Any) -> Any:
    """The component of this process that `component`, around `module`, is or stands for."""
    return module.original if isinstance(module, RemoteModule) else component
