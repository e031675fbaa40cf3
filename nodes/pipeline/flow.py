"""Sample a part, hand it on to be finished, sample the next.

Finishing is decoding, and perhaps enlarging, each at its own location. Results are in order, and
nothing that was finished is lost when the flow stops.
"""

import collections
import functools
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...inference.transfer import new_result
from ...xpu_runtime import host, placement
from ...xpu_runtime.log import LOGGER
from ...xpu_runtime.placement import Handle, Location, Outcome
from ..upscale import placing, upscaling
from ..upscale.plan import PLANNED
from ..upscale.tiles import ResultSize
from .parts import BatchPart

if TYPE_CHECKING:
    from ...xpu_runtime.host.types import VAE, Descriptor, ModelPatcher

UNDER_WAY = 2
"""Parts that are finished at a time beside sampling: one that is computed, one that waits. More
would only take memory: a worker that is behind stays behind."""

FinishingStep = Callable[[Tensor], Outcome]
"""Begins with what the step before has made."""


@dataclass(frozen=True)
class Finishing:
    steps: tuple[FinishingStep, ...]
    overlaps: bool
    """Whether one of them goes on while the next part is sampled."""
    text: str
    """For the user: what is done where."""


def plan_finishing(
    model: "ModelPatcher", vae: "VAE", upscale_model: "Descriptor | None" = None
) -> Finishing:
    """Decode with `vae`, then enlarge if there is a model; `model` samples meanwhile."""
    sampler, _ = placement.locate_model(model)
    enlarging = None if upscale_model is None else placing.locate(upscale_model)
    return plan_steps(sampler, placement.locate_vae(vae), enlarging)


def plan_steps(
    sampler: Location, decoding: tuple[Location, Handle], enlarging: tuple[Location, Handle] | None
) -> Finishing:
    """The steps of what is held at these locations: a VAE, and perhaps an upscale model."""
    decoder, vae = decoding
    text = f"Decoded {decoder.process}"
    first = functools.partial(decoder.begin, decode, vae)
    if enlarging is None:
        return Finishing((first,), decoder.runs_beside(sampler), text)
    enlarger, upscale_model = enlarging
    text += f", enlarged {enlarger.process}"
    overlaps = decoder.runs_beside(sampler) or enlarger.runs_beside(sampler)
    if not decoder.runs_beside(enlarger):
        # The decoded pictures never leave the process.
        both = functools.partial(decoder.begin, decode_and_enlarge, vae, upscale_model)
        return Finishing((both,), overlaps, text)
    return Finishing(
        (first, functools.partial(enlarger.begin, enlarge, upscale_model)), overlaps, text
    )


def decode(vae: "VAE", latents: Tensor) -> Tensor:
    """Pictures [B, H, W, C], as the host's VAEDecode gives them; frames of videos one by one."""
    pictures = vae.decode(latents)
    return pictures.reshape(-1, *pictures.shape[-3:]) if pictures.dim() == 5 else pictures


def enlarge(upscale_model: "Descriptor", pictures: Tensor) -> Tensor:
    """The pictures in the model's own scale, as Upscale Image (IPEX) gives them."""
    return upscaling.enlarge(upscale_model, pictures, ResultSize(), PLANNED)


def decode_and_enlarge(vae: "VAE", upscale_model: "Descriptor", latents: Tensor) -> Tensor:
    """Both, in one process."""
    return enlarge(upscale_model, decode(vae, latents))


class PartUnderWay:
    def __init__(self, part: BatchPart, steps: Sequence[FinishingStep], latents: Tensor) -> None:
        """Begins the first step."""
        self.part = part
        self._left = list(steps)
        self._outcome = self._left.pop(0)(latents)

    def advance(self, wait: bool) -> bool:
        """Begin the next steps where the one before is done. Returns whether all are done.

        `wait`: until the last one has begun. Raises what a step raises.
        """
        while self._left and (wait or self._outcome.is_there()):
            self._outcome = self._left.pop(0)(self._outcome.result())
        return not self._left and (wait or self._outcome.is_there())

    def result(self) -> Tensor:
        """The pictures; waits for them. Raises what the last step raises."""
        pictures: Tensor = self._outcome.result()
        return pictures

    def abandon(self) -> None:
        self._outcome.abandon()


@dataclass
class PhaseSeconds:
    sampling: float = 0.0
    waiting: float = 0.0
    """For another process, with nothing else to do, or in this one's own share of finishing."""
    whole: float = 0.0


@dataclass
class FinishedParts:
    """What is done of a batch. A flow that was stopped is taken up from here."""

    latents: list[Tensor] = field(default_factory=list)
    """Of the first parts."""
    pictures: Tensor | None = None
    """fp32 [B, H, W, C] on the CPU: room for all."""
    count: int = 0
    """Parts that are in `pictures`."""

    def add_pictures(self, part: BatchPart, found: Tensor) -> None:
        """The pictures of the next part. Raises `TooLargeError` if there is no room for all."""
        each = len(found) // part.count
        if self.pictures is None:
            self.pictures = new_result(part.whole * each, *found.shape[1:])
        self.pictures[part.first * each : (part.first + part.count) * each] = found
        self.count += 1


class Unfinished:
    """What the last flow of a node has done, if it was stopped, and the inputs it belongs to."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._done = FinishedParts()
        self._inputs: tuple[tuple[Callable[[], object], ...], object] = ((), None)

    def take_up(self, objects: Sequence[object], settings: object) -> FinishedParts:
        """What was done for the very same objects and equal settings; else what begins anew."""
        references, before = self._inputs
        same = before == settings and len(references) == len(objects)
        if not (same and all(one() is two for one, two in zip(references, objects, strict=True))):
            self._done = FinishedParts()
        self._inputs = (tuple(_refer(one) for one in objects), settings)
        return self._done


def _refer(value: object) -> Callable[[], object]:
    """Models are not kept alive for this; what has no weak references is."""
    try:
        return weakref.ref(value)
    except TypeError:  # lists and dictionaries
        return lambda: value


class BatchFlow:
    def __init__(
        self,
        parts: Sequence[BatchPart],
        sample: Callable[[BatchPart], Tensor],
        finishing: Finishing,
        done: FinishedParts,
    ) -> None:
        """`done` may hold the first parts; it gets the rest."""
        self.parts = parts
        self.done = done
        self.finishing = finishing
        self.seconds = PhaseSeconds()
        self._sample = sample
        self._under_way: collections.deque[PartUnderWay] = collections.deque()

    @property
    def overlaps(self) -> bool:
        """Whether there is a part to sample while another one is finished."""
        return self.finishing.overlaps and len(self.parts) > 1

    def count_pictures(self, parts: int) -> int:
        """How many pictures, or videos, the first `parts` have."""
        return sum(part.count for part in self.parts[:parts])

    def finish(self) -> None:
        """Sample and finish what is not done.

        Raises what sampling, a step or an interrupt raises. `done` then holds all that was done,
        and can be given to another flow.
        """
        began = time.perf_counter()
        try:
            if not self.overlaps:
                for index in range(len(self.parts)):
                    self._find_latents(index)
            for index in range(self.done.count, len(self.parts)):
                latents = self._find_latents(index)
                while self._advance_all() or len(self._under_way) >= UNDER_WAY:
                    self._take_oldest()
                self._begin_finishing(self.parts[index], latents)
            while self._under_way:
                self._take_oldest()
        except BaseException as error:
            self._stop(error)
            raise
        self.seconds.whole = time.perf_counter() - began

    def _find_latents(self, index: int) -> Tensor:
        latents = self.done.latents
        if index == len(latents):
            began = time.perf_counter()
            with self._next_progress():
                latents.append(self._sample(self.parts[index]))
            self.seconds.sampling += time.perf_counter() - began
        return latents[index]

    def _begin_finishing(self, part: BatchPart, latents: Tensor) -> None:
        """A step in this process is done when this returns."""
        began = time.perf_counter()
        with self._next_progress():
            self._under_way.append(PartUnderWay(part, self.finishing.steps, latents))
        self.seconds.waiting += time.perf_counter() - began

    def _advance_all(self) -> bool:
        """Begin next steps where the one before is done; whether the oldest part is finished."""
        began = time.perf_counter()
        with self._next_progress():
            finished = [one.advance(wait=False) for one in self._under_way]
        self.seconds.waiting += time.perf_counter() - began
        return bool(finished) and finished[0]

    def _take_oldest(self) -> None:
        """The oldest part's pictures; it stays under way if they cannot be had."""
        began = time.perf_counter()
        oldest = self._under_way[0]
        with self._next_progress():
            oldest.advance(wait=True)
            self.done.add_pictures(oldest.part, oldest.result())
        self._under_way.popleft()
        self.seconds.waiting += time.perf_counter() - began

    def _next_progress(self) -> AbstractContextManager[Any]:
        """The next step's share of the node's progress: each part is sampled and finished."""
        steps = 2 * len(self.parts)
        at = len(self.done.latents) + self.done.count
        return host.part_of_progress(at / steps, min(at + 1, steps) / steps)

    def _stop(self, error: BaseException) -> None:
        """Leave workers with nothing to do, and log what is kept."""
        for one in reversed(self._under_way):
            one.abandon()
        LOGGER.warning(
            "Pipeline: %s after %d of %d pictures, and %d of %d parts were sampled. They are kept: "
            "the next run with the same inputs goes on from there.",
            "stopped" if host.is_interruption(error) else f"failed ({type(error).__name__})",
            self.count_pictures(self.done.count),
            self.parts[0].whole,
            len(self.done.latents),
            len(self.parts),
        )
