"""Weight files to spandrel models, safely, with errors that name the file."""

from pathlib import Path
from typing import Any

from ...inference.weight_files import WeightFileError, construction, load_state_dict

FOLDER = "upscale_models"

# What spandrel and its constructors raise for weights of shapes that they do not expect.
_MISFITS = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)


class ModelFileError(WeightFileError):
    """A file that holds no model that can be used here."""

    use = " as an upscale model"


def load(path: Path) -> Any:
    """The spandrel descriptor of the network in `path`, on the CPU in fp32, in eval mode.

    No code in the file is run: safetensors hold none, and of a pickle only tensors and plain
    containers are read. Raises `ModelFileError`, `FileNotFoundError`.
    """
    import torch
    from spandrel import MAIN_REGISTRY, ModelLoader, UnsupportedModelError

    add_extra_architectures(MAIN_REGISTRY)
    state = load_state_dict(path, error=ModelFileError)
    try:
        construction.check_names(state)
        size = sum(one.nbytes for one in state.values() if isinstance(one, torch.Tensor))
        # Some constructors call the network; with gradients its tensors could not be copied.
        with torch.no_grad(), construction.limited(size):
            found = ModelLoader().load_from_state_dict(state)
    except UnsupportedModelError as error:
        raise ModelFileError(
            path,
            "its weights belong to no architecture that spandrel knows (the package "
            "spandrel_extra_arches adds some). Its first weights are called "
            f"{', '.join(name[:80] for name in sorted(state)[:3])}.",
        ) from error
    except _MISFITS as error:
        reason = str(error).strip().splitlines() or [repr(error)]
        raise ModelFileError(path, f"its weights do not fit together: {reason[0]}") from error
    return found.eval().float()


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
