"""Sample a part, hand it on, sample the next; results in order, and nothing finished is lost."""

import collections
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...inference.transfer import new_result
from ...xpu_runtime import host
from ...xpu_runtime.log import LOGGER
from .finishing import Finishing, Product
from .parts import Part

UNDER_WAY = 2
"""Parts that workers may have at a time: one that is computed, one that waits. More would only
take memory: a worker that is behind stays behind."""


@dataclass(frozen=True)
class Job:
    """A batch, the way through it, and how a part is sampled."""

    parts: Sequence[Part]
    sample: Callable[[Part], Tensor]
    finishing: Finishing

    @property
    def overlaps(self) -> bool:
        """Whether there is something to do here while a worker works."""
        return bool(self.finishing.workers) and len(self.parts) > 1


UnderWay = collections.deque[tuple[Part, Product]]
"""What was handed on and is not finished, in order."""


@dataclass
class Seconds:
    """Where the time went."""

    sampling: float = 0.0
    waiting: float = 0.0
    """For workers, with nothing else to do, or in this process's own share of finishing."""
    whole: float = 0.0


@dataclass
class Work:
    """What is done of one job; an unfinished one is taken up where it stopped."""

    latents: list[Tensor] = field(default_factory=list)
    """Of the first parts."""
    pictures: Tensor | None = None
    """fp32 [B, H, W, C] on the CPU: room for all."""
    done: int = 0
    """Parts that are in `pictures`."""

    def take(self, part: Part, found: Tensor) -> None:
        """The pictures of the next part. Raises `TooLargeError` if there is no room for all."""
        each = len(found) // part.count
        if self.pictures is None:
            self.pictures = new_result(part.whole * each, *found.shape[1:])
        self.pictures[part.first * each : (part.first + part.count) * each] = found
        self.done += 1


class Unfinished:
    """The work of a node's last run, if it was stopped, and the inputs that it belongs to."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is left to be taken up."""
        self._work = Work()
        self._inputs: tuple[tuple[Callable[[], Any], ...], Any] = ((), None)

    def of(self, objects: Sequence[Any], settings: Any) -> Work:
        """What was done for the very same objects and equal settings; else what begins anew."""
        known, before = self._inputs
        same = before == settings and len(known) == len(objects)
        if not (same and all(one() is two for one, two in zip(known, objects, strict=True))):
            self._work = Work()
        self._inputs = (tuple(_reference(one) for one in objects), settings)
        return self._work


def _reference(value: Any) -> Callable[[], Any]:
    """Models are not kept alive for this; what has no weak references is."""
    try:
        return weakref.ref(value)
    except TypeError:  # lists and dictionaries
        return lambda: value


def run(job: Job, work: Work) -> Seconds:
    """Finish `work`. What it raises is what sampling, a step or an interrupt raises.

    `work` then holds all that was done, and can be given to another run.
    """
    seconds, began = Seconds(), time.perf_counter()
    under_way: UnderWay = collections.deque()
    try:
        if not job.overlaps:
            for index in range(len(job.parts)):
                _latent(job, work, index, seconds)
        for index in range(work.done, len(job.parts)):
            latent = _latent(job, work, index, seconds)
            while _moved_on(job, work, under_way, seconds) or len(under_way) >= UNDER_WAY:
                _take_first(job, work, under_way, seconds)
            under_way.append((job.parts[index], _handed_on(job, work, latent, seconds)))
        while under_way:
            _take_first(job, work, under_way, seconds)
    except BaseException as error:
        _stop(job, work, under_way, error)
        raise
    seconds.whole = time.perf_counter() - began
    return seconds


def _latent(job: Job, work: Work, index: int, seconds: Seconds) -> Tensor:
    if index == len(work.latents):
        began = time.perf_counter()
        with _progress(job, work):
            work.latents.append(job.sample(job.parts[index]))
        seconds.sampling += time.perf_counter() - began
    return work.latents[index]


def _handed_on(job: Job, work: Work, latent: Tensor, seconds: Seconds) -> Product:
    """A part whose first step has begun; a step in this process is then done."""
    began = time.perf_counter()
    with _progress(job, work):
        product = Product(job.finishing.steps, latent)
    seconds.waiting += time.perf_counter() - began
    return product


def _moved_on(job: Job, work: Work, under_way: UnderWay, seconds: Seconds) -> bool:
    """Begin next steps where the one before is done; whether the oldest part is finished."""
    began = time.perf_counter()
    with _progress(job, work):
        finished = [product.advanced(wait=False) for _, product in under_way]
    seconds.waiting += time.perf_counter() - began
    return bool(finished) and finished[0]


def _take_first(job: Job, work: Work, under_way: UnderWay, seconds: Seconds) -> None:
    """The oldest part's pictures; it stays under way if they cannot be had."""
    began = time.perf_counter()
    part, product = under_way[0]
    with _progress(job, work):
        product.advanced(wait=True)
        work.take(part, product.result())
    under_way.popleft()
    seconds.waiting += time.perf_counter() - began


def _progress(job: Job, work: Work) -> Any:
    """The next step's part of the whole: each part is sampled and finished."""
    steps = 2 * len(job.parts)
    at = len(work.latents) + work.done
    return host.part_of_progress(at / steps, min(at + 1, steps) / steps)


def _stop(job: Job, work: Work, under_way: UnderWay, error: BaseException) -> None:
    """Leave workers with nothing to do, and tell what is kept."""
    for _, product in reversed(under_way):
        product.abandon()
    count = sum(part.count for part in job.parts[: work.done])
    LOGGER.warning(
        "Pipeline: %s after %d of %d pictures, and %d of %d parts were sampled. They are kept: the "
        "next run with the same inputs goes on from there.",
        "stopped" if host.is_interruption(error) else f"failed ({type(error).__name__})",
        count,
        job.parts[0].whole,
        len(work.latents),
        len(job.parts),
    )
