"""Weights out of files, into networks. No code in a file is run."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..weights import WeightFileError

if TYPE_CHECKING:
    from torch import Tensor, nn

_WRAPPERS = ("state_dict", "params_ema", "params", "model", "depth_model")
"""Keys under which training programs keep the weights beside their own state."""


def state_of(path: Path) -> "dict[str, Tensor]":
    """Names and tensors in `path`, on the CPU, without "module." in front.

    Of a pickle only tensors and plain containers are read. Raises `WeightFileError`,
    `FileNotFoundError`.
    """
    from torch import Tensor

    found = _read(path)
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    weights = found if isinstance(found, Mapping) else {}
    state = {str(k): v for k, v in weights.items() if isinstance(v, Tensor)}
    if not state:
        raise WeightFileError(path, "it holds no weights.")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _read(path: Path) -> Any:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix.lower() in (".safetensors", ".sft"):
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text recommends to load the file unsafely.
        raise WeightFileError(
            path,
            "it holds Python objects beside weights, which could run any code, or is no "
            "checkpoint at all. Download it again from its own repository.",
        ) from error
    except FileNotFoundError:
        raise
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [repr(error)]
        raise WeightFileError(
            path, f"it is damaged or incomplete ({reason[0]}). Download it again."
        ) from error


def fill(network: "nn.Module", state: "Mapping[str, Tensor]", path: Path) -> "nn.Module":
    """`network` with the weights of `state`, fp32 and in eval mode.

    A network on the meta device takes the tensors themselves. Raises `WeightFileError` where
    names or shapes do not fit.
    """
    on_meta = any(value.is_meta for value in network.state_dict().values())
    try:
        network.load_state_dict(dict(state), assign=on_meta)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]] or [str(error)]
        raise WeightFileError(
            path, f"its weights are those of another network: {' '.join(lines)[:300]}"
        ) from error
    return network.eval().float().requires_grad_(False)
