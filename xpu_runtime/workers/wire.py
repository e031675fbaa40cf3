"""How values cross between processes: tensors as bytes in shared memory, the rest as a pickle.

Classes and functions of this extension cross by their place in it, because hosts load it under
names of their own; classes of the host and of libraries cross by name. Both sides must therefore
have the same Python version, the same ComfyUI and the same copy of this extension.
"""

import importlib
import io
import pickle
import types
import weakref
from dataclasses import dataclass
from typing import Any

from .. import host

ROOT = __name__.removesuffix(".xpu_runtime.workers.wire")
"""The name that this copy of the extension was loaded under."""

CHUNK_BYTES = 128 << 20
"""Tensors cross in calls of about this size, so that shared memory holds no whole model."""


@dataclass(frozen=True)
class Kept:
    """Stands, in what is sent, for an object that the worker keeps."""

    key: str


@dataclass(frozen=True)
class Message:
    """A value that is ready to cross. Plain types only, so that anyone can unpack it."""

    pickled: bytes
    tensors: tuple[tuple[str, tuple[int, ...], bool, Any], ...]
    """dtype, shape, whether it is a parameter, and its bytes as a numpy array."""

    @property
    def plain(self) -> tuple[bytes, tuple[Any, ...]]:
        """For the transport, which must not meet a class of ours."""
        return self.pickled, self.tensors


class SentNetwork:
    """Crosses as a network with the weights of its file. Refers to it weakly.

    Weights that the host has patched in place are restored first.
    """

    def __init__(self, network: Any) -> None:
        self._network = weakref.ref(network)

    def __reduce__(self) -> Any:
        """How the pickler takes it."""
        network = self._network()
        host.without_patches(network)
        return (itself, (network,))


def itself(value: Any) -> Any:
    """What a value that was sent in place of another becomes."""
    return value


def packed(value: Any) -> Message:
    """`value`, with its tensors' bytes beside it. Tensors on a card are copied to the CPU.

    Raises `TypeError` for tensors that have no plain memory, such as sparse ones.
    """
    buffer = io.BytesIO()
    pickler = _pickler_class()(buffer)
    pickler.dump(value)
    return Message(buffer.getvalue(), tuple(pickler.tensors))


def unpacked(plain: tuple[bytes, tuple[Any, ...]], kept: dict[str, Any] | None = None) -> Any:
    """The value of a message, its tensors copied out of shared memory, on the CPU.

    `kept` has what a `Kept` stands for. Raises `KeyError` if one is not there.
    """
    pickled, tensors = plain
    return _Unpickler(io.BytesIO(pickled), tensors, kept or {}).load()


def size_of(plain: tuple[bytes, tuple[Any, ...]]) -> int:
    """Bytes that cross."""
    return len(plain[0]) + sum(row[3].nbytes for row in plain[1])


def in_chunks(rows: tuple[Any, ...]) -> list[list[Any]]:
    """The rows of a message in groups of about `CHUNK_BYTES`; at least one group."""
    groups: list[list[Any]] = [[]]
    size = 0
    for row in rows:
        if groups[-1] and size + row[3].nbytes > CHUNK_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += row[3].nbytes
    return groups


def _pickler_class() -> Any:
    """The class, made when it is needed: its base belongs to an optional package."""
    from ray.cloudpickle import CloudPickler

    class Pickler(CloudPickler):  # type: ignore[misc]
        """Leaves tensors, and what is ours, to `persistent_load`."""

        def __init__(self, file: io.BytesIO) -> None:
            super().__init__(file, protocol=5)
            self.tensors: list[tuple[str, tuple[int, ...], bool, Any]] = []
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
                    self.tensors.append(_described(value))
                return ("tensor", self._numbers[id(value)])
            if isinstance(value, type | types.FunctionType) and _is_ours(value):
                return ("ours", value.__module__[len(ROOT) + 1 :], value.__qualname__)
            return None

    return Pickler


def _is_ours(value: Any) -> bool:
    module = getattr(value, "__module__", None) or ""
    # Functions inside functions have no place that they could be found at.
    return module.startswith(f"{ROOT}.") and "<" not in value.__qualname__


def _described(tensor: Any) -> tuple[str, tuple[int, ...], bool, Any]:
    import torch

    is_parameter = isinstance(tensor, torch.nn.Parameter)
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
        raise TypeError(
            f"A tensor of the kind {type(tensor).__name__} ({tensor.layout}) cannot be sent to a "
            "worker. Quantised weights of newer hosts are such; use the model's plain weights."
        )
    near = tensor.detach().to("cpu").contiguous()
    # numpy has no bf16 and no fp8.
    content = near.reshape(-1).view(torch.uint8).numpy()
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), is_parameter, content


def restored(row: tuple[str, tuple[int, ...], bool, Any]) -> Any:
    """The tensor of a row of `Message.tensors`, in memory of its own."""
    import torch

    dtype, shape, is_parameter, content = row
    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    if content.size:
        tensor.reshape(-1).view(torch.uint8).numpy()[:] = content
    return torch.nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: tuple[Any, ...], kept: dict[str, Any]) -> None:
        super().__init__(file)
        self._rows = tensors
        self._tensors: dict[int, Any] = {}
        self._kept = kept

    def persistent_load(self, name: Any) -> Any:
        """What `persistent_id` left out."""
        kind, *rest = name
        if kind == "kept":
            return self._kept[rest[0]]
        if kind == "tensor":
            if rest[0] not in self._tensors:
                row = self._rows[rest[0]]
                self._tensors[rest[0]] = restored(row) if isinstance(row, tuple | list) else row
            return self._tensors[rest[0]]
        found: Any = importlib.import_module(f"{ROOT}.{rest[0]}")
        for part in rest[1].split("."):
            found = getattr(found, part)
        return found
