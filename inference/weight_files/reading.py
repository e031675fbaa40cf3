"""Weights out of files, safely, with errors that name the file.

Nothing that a file holds is run: safetensors hold no code, and of a pickle only tensors and
plain containers are read. TorchScript is code, and has a function of its own.
"""

import pickle
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .archives import ArchiveError, check_checkpoint, check_program, check_size

if TYPE_CHECKING:
    from torch import nn

SAFETENSORS = (".safetensors", ".sft")

FILE_TYPES = (*SAFETENSORS, ".pth", ".pt", ".ckpt", ".bin")

# The same as spandrel's, which is slow to import.
_WRAPPERS = ("model_state_dict", "state_dict", "params_ema", "params-ema", "params", "model", "net")
_PREFIXES = ("module.", "netG.")

_DOWNLOAD = "Download it again."

# What torch, its pickle reader and TorchScript raise for files that are not what they seem.
_DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
)


class WeightFileError(ValueError):
    """A file that does not hold what it should."""

    use = ""
    """What it was to be used as, for the message: " as an upscale model"."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name} cannot be used{self.use}: {reason} ({path})")


def load_state_dict(
    path: Path, within: str = "", error: type[WeightFileError] = WeightFileError
) -> dict[str, Any]:
    """Names and tensors in `path`, on the CPU, as they are stored.

    What training programs wrap around them is taken off: a mapping such as "state_dict" or
    "model", or the one called `within`, and the prefix "module." of all names. Raises `error`,
    `FileNotFoundError`.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check(path, FILE_TYPES, error)
    try:
        if path.suffix.lower() in SAFETENSORS:
            found: Any = load_file(path)
        else:
            check_checkpoint(path)
            found = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as cause:
        raise error(path, f"it is no whole safetensors file ({cause}). {_DOWNLOAD}") from cause
    except pickle.UnpicklingError as cause:
        # torch's own text recommends to load the file unsafely.
        raise error(
            path,
            "it holds Python objects beside weights, which could run any code, or is no "
            "checkpoint at all. Convert it to safetensors where you trust its source.",
        ) from cause
    except ArchiveError as cause:
        raise error(path, f"{cause}.") from cause
    except _DAMAGE as cause:
        raise error(path, f"it is damaged or incomplete ({_line(cause)}). {_DOWNLOAD}") from cause
    return _weights_in(path, found, within, error)


def load_torchscript(path: Path, error: type[WeightFileError] = WeightFileError) -> "nn.Module":
    """The TorchScript program in `path`, on the CPU, in eval mode.

    It is code: only for methods that say so to the user. One that does more than compute with
    tensors is refused before any of it runs. Raises `error`, `FileNotFoundError`.
    """
    import torch

    _check(path, (".pt", ".pth"), error)
    try:
        check_program(path)
        program: nn.Module = torch.jit.load(str(path), map_location="cpu").eval()
    except ArchiveError as cause:
        raise error(path, f"{cause}. {_DOWNLOAD}") from cause
    except _DAMAGE as cause:
        raise error(
            path, f"it is no whole TorchScript file ({_line(cause)}). {_DOWNLOAD}"
        ) from cause
    return program


def _check(path: Path, types: tuple[str, ...], error: type[WeightFileError]) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"The weight file {path} does not exist.")
    if path.suffix.lower() not in types:
        raise error(path, f"files must end in one of {', '.join(types)}.")
    if path.stat().st_size == 0:
        raise error(path, f"the file is empty. {_DOWNLOAD}")


def _line(cause: BaseException) -> str:
    return (str(cause).strip().splitlines() or [repr(cause)])[0]


def _weights_in(
    path: Path, found: Any, within: str, error: type[WeightFileError]
) -> dict[str, Any]:
    from torch import Tensor

    if within:
        if not isinstance(found, dict) or not isinstance(found.get(within), dict):
            raise error(path, f"it holds nothing called {within!r}.")
        found = found[within]
    weights = _unwrapped(found) if isinstance(found, dict) else {}
    tensors = [value for value in weights.values() if isinstance(value, Tensor)]
    if not tensors or not all(isinstance(name, str) for name in weights):
        raise error(path, "it holds no weights.")
    try:
        # One number in the file may stand for any number of them in a tensor.
        claimed = sum(value.numel() * value.element_size() for value in tensors)
        check_size(claimed, path, "its weights")
    except ArchiveError as cause:
        raise error(path, f"{cause}.") from cause
    return weights


def _unwrapped(found: dict[str, Any]) -> dict[str, Any]:
    inner = [found[name] for name in _WRAPPERS if isinstance(found.get(name), dict)]
    if not inner and len(found) == 1:
        inner = [value for value in found.values() if isinstance(value, dict)]
    weights = dict(inner[0]) if inner else dict(found)
    for prefix in _PREFIXES:
        if weights and all(str(name).startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights
