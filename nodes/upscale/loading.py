"""Weight files to spandrel models, safely, with errors that name the file."""

import pickle
from pathlib import Path
from typing import Any

FOLDER = "upscale_models"

FILE_TYPES = (".safetensors", ".sft", ".pth", ".pt", ".ckpt", ".bin")


class ModelFileError(ValueError):
    """A file that holds no model that can be used here."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name} cannot be used as an upscale model: {reason} ({path})")


def load(path: Path) -> Any:
    """The spandrel descriptor of the network in `path`, on the CPU in fp32, in eval mode.

    No code in the file is run: safetensors hold none, and of a pickle only tensors and plain
    containers are read. Raises `ModelFileError`, `FileNotFoundError`.
    """
    import torch
    from spandrel import MAIN_REGISTRY, ModelLoader, UnsupportedModelError

    add_extra_architectures(MAIN_REGISTRY)
    state = state_of(path)
    try:
        # Some constructors call the network; with gradients its tensors could not be copied.
        with torch.no_grad():
            found = ModelLoader().load_from_state_dict(state)
    except UnsupportedModelError as error:
        raise ModelFileError(
            path,
            "its weights belong to no architecture that spandrel knows (the package "
            "spandrel_extra_arches adds some). Its first weights are called "
            f"{', '.join(sorted(map(str, state))[:3])}.",
        ) from error
    except (RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        reason = str(error).strip().splitlines() or [repr(error)]
        raise ModelFileError(path, f"its weights do not fit together: {reason[0]}") from error
    return found.eval().float()


def state_of(path: Path) -> dict[str, Any]:
    """Names and tensors in `path`, on the CPU. Raises `ModelFileError`, `FileNotFoundError`."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"The upscale model {path} does not exist.")
    if path.suffix.lower() not in FILE_TYPES:
        raise ModelFileError(path, f"files must end in one of {', '.join(FILE_TYPES)}.")
    if path.stat().st_size == 0:
        raise ModelFileError(path, "the file is empty. Download it again.")
    try:
        if path.suffix.lower() in (".safetensors", ".sft"):
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ModelFileError(
            path, f"it is no whole safetensors file ({error}). Download it again."
        ) from error
    except pickle.UnpicklingError as error:
        # torch's own text recommends to load the file unsafely.
        raise ModelFileError(
            path,
            "it holds Python objects beside weights, which could run any code, or is no "
            "checkpoint at all. Convert it to safetensors where you trust its source.",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [repr(error)]
        raise ModelFileError(
            path, f"it is damaged or incomplete ({reason[0]}). Download it again."
        ) from error
    return _weights_in(path, found)


def _weights_in(path: Path, found: Any) -> dict[str, Any]:
    from spandrel import canonicalize_state_dict
    from torch import Tensor

    weights = canonicalize_state_dict(found) if isinstance(found, dict) else {}
    if not any(isinstance(value, Tensor) for value in weights.values()):
        raise ModelFileError(path, "it holds no weights.")
    return dict(weights)


def has_extra_architectures() -> bool:
    """Whether spandrel_extra_arches, whose licences forbid commercial use, is installed."""
    from importlib.util import find_spec

    return find_spec("spandrel_extra_arches") is not None


def add_extra_architectures(registry: Any) -> None:
    """Make the non-commercial architectures known to spandrel, if they are installed.

    The host does the same when it starts.
    """
    if has_extra_architectures():
        from spandrel_extra_arches import EXTRA_REGISTRY

        registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)
