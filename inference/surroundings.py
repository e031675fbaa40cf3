"""What a run asks of the program around it: progress, interrupts, memory that is given back."""

from collections.abc import Callable
from dataclasses import dataclass

from ..xpu_runtime import host

_STEPS = 1000


@dataclass(frozen=True)
class Surroundings:
    """What a run asks of the program around it."""

    progress: Callable[[int, int], None] = lambda done, total: None
    """Told after each step: how much of the work is done, of how much."""
    check_interrupted: Callable[[], None] = lambda: None
    """Asked before each step; raises to end the run."""
    empty_caches: Callable[[], None] = lambda: None
    """Gives unused memory back after it ran out."""


ALONE = Surroundings()


def of_this_node() -> Callable[[float, float], Surroundings]:
    """(first, last share of the whole) -> a part of the running node's one progress bar."""
    bar = host.progress_bar(_STEPS)

    def part(first: float, last: float) -> Surroundings:
        def progress(done: int, total: int) -> None:
            bar.update_absolute(round(_STEPS * (first + (last - first) * done / total)), _STEPS)

        return Surroundings(progress, host.check_interrupted, host.empty_caches)

    return part
