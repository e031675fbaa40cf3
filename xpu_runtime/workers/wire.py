"""How a value crosses between processes: a pickle, and its tensors beside it.

Classes and functions of this extension cross by their place in it, because hosts load it under
names of their own; classes and functions of the host and of libraries cross by name, or by value
where they have none (`by_value`). Both sides must therefore have the same Python version, the same
ComfyUI and the same copy of this extension.
"""

import importlib
import io
import pickle
import types
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import host
from . import by_value
from .channel import Message

if TYPE_CHECKING:
    import torch

ROOT = __name__.removesuffix(".xpu_runtime.workers.wire")
"""The name that this copy of the extension was loaded under."""


@dataclass(frozen=True)
class Kept:
    """Stands, in what is sent, for an object that the worker keeps."""

    key: str


class SentNetwork:
    """Crosses as a network with the weights of its file. Refers to it weakly.

    Weights that the host has patched in place are restored first.
    """

    def __init__(self, network: Any) -> None:
        self._network = weakref.ref(network)

    def __reduce__(self) -> Any:
        network = self._network()
        host.without_patches(network)
        return (itself, (network,))


def itself(value: Any) -> Any:
    """What a value that was sent in place of another becomes."""
    return value


def packed(value: Any) -> Message:
    """`value`, with its tensors beside it. Tensors on a card are copied to the CPU.

    Raises `TypeError`, with its kind, for what cannot cross: sparse tensors, locks, open files.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    try:
        pickler.dump(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(f"This cannot cross to another process: {error}") from error
    return Message(buffer.getvalue(), tuple(pickler.tensors))


def unpacked(message: Message, kept: Mapping[str, Any] | None = None) -> Any:
    """`kept` has what a `Kept` stands for. Raises `KeyError` if one is not there."""
    return _Unpickler(message, kept or {}).load()


class _Pickler(pickle.Pickler):
    """Leaves tensors, and what is ours, to `persistent_load`."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.tensors: list[torch.Tensor] = []
        self._numbers: dict[int, int] = {}
        # What has a number must live until all is written: ids are used again.
        self._alive: list[Any] = []

    def persistent_id(self, value: Any) -> Any:
        """What stands for `value` in the pickle; None for what is pickled as usual."""
        import torch

        if isinstance(value, Kept):
            return ("kept", value.key)
        if isinstance(value, torch.Tensor):
            if id(value) not in self._numbers:
                self._numbers[id(value)] = len(self.tensors)
                self._alive.append(value)
                self.tensors.append(_plain(value))
            return ("tensor", self._numbers[id(value)], isinstance(value, torch.nn.Parameter))
        if isinstance(value, type | types.FunctionType) and _is_ours(value):
            return ("ours", value.__module__[len(ROOT) + 1 :], value.__qualname__)
        return None

    def reducer_override(self, value: Any) -> Any:
        """What the standard pickler cannot write by name is written by value."""
        return by_value.reduced(value)


def _is_ours(value: Any) -> bool:
    module = getattr(value, "__module__", None) or ""
    # Functions inside functions have no place that they could be found at.
    return module.startswith(f"{ROOT}.") and "<" not in value.__qualname__


def _plain(tensor: "torch.Tensor") -> "torch.Tensor":
    """On the CPU and contiguous; the tensor's own memory if it is so already."""
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
        raise TypeError(
            f"a tensor of the kind {type(tensor).__name__} ({tensor.layout}). "
            "Quantised weights of newer hosts are such; use the model's plain weights."
        )
    return tensor.detach().to("cpu").contiguous()


class _Unpickler(pickle.Unpickler):
    def __init__(self, message: Message, kept: Mapping[str, Any]) -> None:
        super().__init__(io.BytesIO(message.pickled))
        self._tensors = list(message.tensors)
        self._kept = kept

    def persistent_load(self, name: Any) -> Any:
        import torch

        kind, *rest = name
        if kind == "kept":
            return self._kept[rest[0]]
        if kind == "tensor":
            number, is_parameter = rest
            tensor = self._tensors[number]
            if is_parameter and not isinstance(tensor, torch.nn.Parameter):
                tensor = torch.nn.Parameter(tensor, requires_grad=False)
                self._tensors[number] = tensor
            return tensor
        found: Any = importlib.import_module(f"{ROOT}.{rest[0]}")
        for part in rest[1].split("."):
            found = getattr(found, part)
        return found
