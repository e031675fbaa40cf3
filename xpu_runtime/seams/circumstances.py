"""What the rows of the table depend on in this process."""

from collections.abc import Callable
from dataclasses import dataclass

from .. import host
from ..priority import Primary

MODEL_MANAGEMENT = "comfy.model_management"

BOTH_MAKERS = "with an NVIDIA card beside it, the wrong maker's back end is asked"


@dataclass(frozen=True)
class Circumstances:
    """What the rows depend on in this process."""

    primary: Primary
    xpus: int
    """How many Intel GPUs torch offers."""
    both_makers: bool
    """torch offers CUDA devices beside the XPUs."""
    max_allocation: int | None
    """The user's own figure for the most bytes that one tensor may take."""


def one_maker(
    circumstances: Circumstances, function: str | None = None
) -> Callable[[], str | None]:
    """Why a row for machines with both makers' cards is left out, or None if it is needed."""

    def not_needed() -> str | None:
        if not circumstances.both_makers:
            return "torch offers no NVIDIA card beside the Intel GPU"
        if function is not None and not host.has(function):
            return "this ComfyUI has no such question"
        return None

    return not_needed
