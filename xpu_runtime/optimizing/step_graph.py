"""A step recorded as a graph of the device's work, and repeated without its Python code.

A recording is bound to the shapes of all inputs, to every plain value in them, and to the
addresses of all weights. So a LoRA that is loaded has the step recorded anew, in some 0.1 s. Steps
with code of other nodes in them are not recorded.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .inputs import Flat, flat, rebuilt


def no_graphs(device: torch.device) -> str:
    """Why torch cannot record graphs on a device; "" if it can."""
    if device.type == "cpu":
        return "a CPU has none"
    if _graph_class(device) is None or not hasattr(_backend(device), "graph"):
        return f"this torch records none on {device.type}"
    return ""


def _backend(device: torch.device) -> Any:
    return getattr(torch, device.type)


def _graph_class(device: torch.device) -> Any:
    return getattr(_backend(device), {"cuda": "CUDAGraph"}.get(device.type, "XPUGraph"), None)


class StepGraph:
    """One step with inputs of one kind. Its memory stays reserved while this object lives.

    Raises what torch raises if the step does something that cannot be recorded, such as looking
    at a number; the device is usable then as before.
    """

    def __init__(self, step: Callable[[Any], Tensor], inputs: Any, device: torch.device) -> None:
        backend = _backend(device)
        self._given = tuple(one.clone() for one in flat(inputs).tensors)

        def compute() -> Tensor:
            return step(rebuilt(inputs, iter(self._given)))

        held = backend.memory_reserved(device)
        # Libraries set up their workspaces at the first call, which must not be recorded.
        side = backend.Stream(device)
        side.wait_stream(backend.current_stream(device))
        with backend.stream(side):
            compute()
        backend.current_stream(device).wait_stream(side)
        self._graph = _graph_class(device)()
        # Other threads of the server may use the device meanwhile.
        mode = {"capture_error_mode": "thread_local"} if device.type == "cuda" else {}
        with backend.graph(self._graph, **mode):
            self._result = compute()
        backend.synchronize(device)
        self.held = max(0, backend.memory_reserved(device) - held)
        """Bytes that the recording took."""

    def __call__(self, given: Flat) -> Tensor:
        """The result for inputs of the same key."""
        for own, new in zip(self._given, given.tensors, strict=True):
            own.copy_(new)
        self._graph.replay()
        return self._result.clone()
