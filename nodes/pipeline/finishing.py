"""From a latent to a finished picture: decoded, perhaps enlarged, each here or in a worker."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ...xpu_runtime.workers import Pending, Resident, Worker
from ...xpu_runtime.workers import vae as vae_proxies
from ..upscale import placing, upscaling
from ..upscale.plan import PLANNED


class Later(Protocol):
    """Something that will be there."""

    def is_there(self) -> bool:
        """Whether `result` would not wait."""

    def result(self) -> Any:
        """What it is; waits for it, and raises what went wrong."""

    def abandon(self) -> None:
        """Nobody wants it any more."""


@dataclass(frozen=True)
class Now:
    """What is there already."""

    value: Any

    def is_there(self) -> bool:
        """It is."""
        return True

    def result(self) -> Any:
        """It."""
        return self.value

    def abandon(self) -> None:
        """Nothing is under way."""


Step = Callable[[Any], "Pending | Now"]


class Product:
    """A part of the batch on its way through the steps."""

    def __init__(self, steps: tuple[Step, ...], value: Any) -> None:
        """Begins the first step with `value`."""
        self._left = list(steps)
        self._now: Later = self._left.pop(0)(value)

    def advanced(self, wait: bool) -> bool:
        """Begin the next steps where the one before is done; whether all are done.

        `wait`: for the steps in workers. Raises what a step raises.
        """
        while self._left and (wait or self._now.is_there()):
            self._now = self._left.pop(0)(self._now.result())
        return not self._left and (wait or self._now.is_there())

    def result(self) -> Tensor:
        """The pictures. Raises what the last step raises."""
        pictures: Tensor = self._now.result()
        return pictures

    def abandon(self) -> None:
        """Nobody wants it any more."""
        self._now.abandon()


@dataclass(frozen=True)
class Finishing:
    """The steps after sampling, and where they are."""

    steps: tuple[Step, ...]
    workers: tuple[str, ...]
    """The names of the workers that have a share of it."""
    text: str
    """For the user: what is done where."""


def finishing(vae: Any, upscale_model: Any = None) -> Finishing:
    """Decode with `vae`, then enlarge if there is a model; both may be proxies of a worker."""
    decoder = vae_proxies.resident_of(vae)
    enlarger = None
    if upscale_model is not None:
        handle = placing.locate(upscale_model)[1]
        enlarger = handle if isinstance(handle, Resident) else None
    theirs = [_worker_of(one) for one in (decoder, enlarger)]
    names = tuple(dict.fromkeys(one.plan.name for one in theirs if one is not None))
    text = f"Decoded {_where(theirs[0])}"
    if upscale_model is not None:
        text += f", enlarged {_where(theirs[1])}"
    if decoder is not None and enlarger is not None and theirs[0] is theirs[1]:
        # The decoded picture never leaves the worker.
        together = functools.partial(decoder.worker.begin, finished, decoder, enlarger)
        return Finishing((together,), names, text)
    steps = [_step(theirs[0], decoded, vae if decoder is None else decoder)]
    if upscale_model is not None:
        model = upscale_model if enlarger is None else enlarger
        steps.append(_step(theirs[1], enlarged, model))
    return Finishing(tuple(steps), names, text)


def _worker_of(resident: Any) -> Worker | None:
    return None if resident is None else resident.worker


def _where(worker: Worker | None) -> str:
    return "in this process" if worker is None else f"on the worker {worker.plan.name!r}"


def _step(worker: Worker | None, function: Callable[..., Any], owner: Any) -> Step:
    if worker is None:
        return lambda value: Now(function(owner, value))
    return functools.partial(worker.begin, function, owner)


def decoded(vae: Any, latents: Tensor) -> Tensor:
    """Pictures [B, H, W, C], as the host's VAEDecode gives them; frames of videos one by one."""
    pictures: Tensor = vae.decode(latents)
    return pictures.reshape(-1, *pictures.shape[-3:]) if pictures.dim() == 5 else pictures


def enlarged(upscale_model: Any, pictures: Tensor) -> Tensor:
    """The pictures in the model's own scale, as Upscale Image (IPEX) gives them."""
    return upscaling.enlarge(upscale_model, pictures, upscaling.ResultSize(), PLANNED)


def finished(vae: Any, upscale_model: Any, latents: Tensor) -> Tensor:
    """Both."""
    return enlarged(upscale_model, decoded(vae, latents))
