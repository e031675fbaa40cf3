"""A text encoder of the host whose network runs in a worker.

Tokens, LoRAs, layers and hooks are the host's own matter; what they come to is sent along.
"""

import functools
import weakref
from typing import TYPE_CHECKING, Any

from ..placement.location import There
from . import Resident, served
from .errors import NotOnWorkerError
from .wire import SentNetwork

if TYPE_CHECKING:
    import torch

_COMPUTES = ("encode_from_tokens", "generate")

# What other nodes ask of the network without running it.
_OF_WEIGHTS = frozenset(
    {
        "dtypes",
        "modules",
        "named_modules",
        "named_parameters",
        "parameters",
        "state_dict",
    }
)

_STATE = "ipex_on_worker"

_NETWORKS: weakref.WeakKeyDictionary[Any, dict[str, Resident]] = weakref.WeakKeyDictionary()
"""By a network: what workers keep of it, by their names."""

_PATCHED: weakref.WeakKeyDictionary[Any, dict[Any, Resident]] = weakref.WeakKeyDictionary()
"""By a patcher: what a worker keeps of it, by patches and device."""


def on_worker(clip: Any, place: There, offload: "torch.device | None") -> Any:
    """A proxy of `clip`, with all its attributes, whose encoding is the worker's."""
    clip = original(clip)
    return _wrapped(clip.clone(), clip, place, offload)


def original(clip: Any) -> Any:
    """What `clip` was before it was placed on a worker, with its patches since."""
    if _STATE not in vars(clip):
        return clip
    plain = _base_of(clip).clone(clip)
    plain.cond_stage_model = vars(clip)["cond_stage_model"]
    return plain


def _base_of(clip: Any) -> Any:
    return type(clip).__mro__[1]


def _wrapped(clone: Any, like: Any, place: There, offload: "torch.device | None") -> Any:
    network = vars(like)["cond_stage_model"]
    clone.__class__ = _proxy_class(type(clone))
    vars(clone)["cond_stage_model"] = network
    vars(clone)[_STATE] = (place, offload)
    return clone


def _resident(clip: Any) -> Resident:
    """What the worker keeps for the patches that `clip` has now."""
    place, offload = vars(clip)[_STATE]
    worker, patcher = place.worker, clip.patcher
    network = vars(clip)["cond_stage_model"]
    plain = _NETWORKS.setdefault(network, {})
    if worker.plan.name not in plain:
        plain[worker.plan.name] = Resident(worker, served.text_encoder, SentNetwork(network))
    known = _PATCHED.setdefault(patcher, {})
    key = (patcher.patches_uuid, str(place), offload)
    if key not in known:
        known.clear()
        known[key] = Resident(
            worker,
            served.patched_text_encoder,
            plain[worker.plan.name],
            patcher.patches,
            patcher.patches_uuid,
            patcher.model_options,
            place.device,
            offload,
        )
    return known[key]


class WeightsAlone:
    """A network that other nodes may look at and not run, because it is placed on a worker."""

    def __init__(self, network: Any, worker: str) -> None:
        self.__dict__["_network"] = network
        self.__dict__["_worker"] = worker

    def __getattr__(self, name: str) -> Any:
        """The network's own, if it is about weights. Raises `NotOnWorkerError` otherwise."""
        if name in _OF_WEIGHTS:
            return getattr(self.__dict__["_network"], name)
        raise NotOnWorkerError("The text encoder", f"cond_stage_model.{name}", self._worker)


@functools.cache
def _proxy_class(base: Any) -> Any:
    """The class, made when it is first needed: its base belongs to the host."""

    class WorkerCLIP(base):  # type: ignore[misc]
        """Everything that is no computation is the host's own CLIP."""

        @property
        def cond_stage_model(self) -> WeightsAlone:
            """The weights, for what reads their names and shapes."""
            return WeightsAlone(vars(self)["cond_stage_model"], _worker_of(self))

        def clone(self, *arguments: Any, **named: Any) -> Any:
            """A proxy again, with patches of its own."""
            return _wrapped(super().clone(*arguments, **named), self, *vars(self)[_STATE])

        def get_sd(self) -> Any:
            """The original's weights, for saving."""
            return original(self).get_sd()

        def load_model(self, *_: Any, **__: Any) -> Any:
            """Schedules of hooks and saving of merged weights ask for this. Raises always."""
            raise NotOnWorkerError("The text encoder", "load_model", _worker_of(self))

    def computed(name: str) -> Any:
        def method(self: Any, tokens: Any, *arguments: Any, **named: Any) -> Any:
            call = _named_arguments(getattr(base, name), arguments, named)
            worker = vars(self)[_STATE][0].worker
            answer = worker.call(served.encode, _resident(self), self.layer_idx, name, tokens, call)
            return self.add_hooks_to_dict(answer) if isinstance(answer, dict) else answer

        return method

    for name in _COMPUTES:
        if hasattr(base, name):
            setattr(WorkerCLIP, name, computed(name))
    return WorkerCLIP


def _worker_of(clip: Any) -> str:
    return str(vars(clip)[_STATE][0].worker.plan.name)


def _named_arguments(method: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Everything after the tokens by name."""
    import inspect

    names = list(inspect.signature(method).parameters)[2:]
    return {**dict(zip(names, arguments, strict=False)), **named}
