"""Text encoders whose network a worker runs.

Tokens, LoRAs, layers and hooks are the host's own matter; what they come to is sent along.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import host
from ...workers import NotOnWorkerError, Resident
from ...workers.wire import SentNetwork
from .. import local
from ..location import There
from .handles import HANDLES, REMOTE

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ...host.types import CLIP, Tokens


@dataclass
class RemoteCLIP:
    """What the proxy of a text encoder stands for."""

    location: There
    offload_device: "torch.device | None"
    handle: Resident | None = None
    """Of the text encoder with the proxy's patches; None before it is first called."""
    patches_uuid: Any = None
    """Of the patches that `handle` was made with."""


def original_clip(clip: "CLIP") -> "CLIP":
    """What `clip` was before it was placed on a worker, with its patches since."""
    if REMOTE not in vars(clip):
        return clip
    plain: CLIP = type(clip).__mro__[1].clone(clip)  # type: ignore[attr-defined]
    plain.cond_stage_model = vars(clip)["cond_stage_model"]
    return plain


def place_clip(clip: "CLIP", location: There, offload_device: "torch.device | None") -> "CLIP":
    """A proxy of `clip`, with all its attributes, whose encoding is the worker's."""
    clip = original_clip(clip)
    return _proxy_of_clip(clip.clone(), clip, RemoteCLIP(location, offload_device))


def _proxy_of_clip(clone: "CLIP", like: "CLIP", remote: RemoteCLIP) -> "CLIP":
    network = vars(like)["cond_stage_model"]
    clone.__class__ = _clip_class(type(clone))
    vars(clone)["cond_stage_model"] = network
    vars(clone)[REMOTE] = remote
    return clone


def _handle_of_clip(clip: "CLIP") -> Resident:
    """What the worker holds for the patches that `clip` has now."""
    remote: RemoteCLIP = vars(clip)[REMOTE]
    location, patcher = remote.location, clip.patcher
    network = vars(clip)["cond_stage_model"]
    # Every LoRA is another proxy; the weights are sent once.
    plain = HANDLES.keep(
        network,
        location.worker.plan.name,
        lambda: location.hold(serve_text_encoder, SentNetwork(network)),
    )
    if remote.handle is None or remote.patches_uuid != patcher.patches_uuid:
        remote.handle = location.hold(
            serve_patches,
            plain,
            patcher.patches,
            patcher.patches_uuid,
            patcher.model_options,
            location.device,
            remote.offload_device,
        )
        remote.patches_uuid = patcher.patches_uuid
    return remote.handle


class WeightsAlone:
    """A network that other nodes may look at and not run, because it is placed on a worker."""

    _READABLE = frozenset(
        {"dtypes", "modules", "named_modules", "named_parameters", "parameters", "state_dict"}
    )

    def __init__(self, network: "nn.Module", worker: str) -> None:
        self.__dict__["_network"] = network
        self.__dict__["_worker"] = worker

    def __getattr__(self, name: str) -> Any:
        """The network's own, if it is about weights. Raises `NotOnWorkerError` otherwise."""
        if name in self._READABLE:
            return getattr(self.__dict__["_network"], name)
        worker = self.__dict__["_worker"]
        raise NotOnWorkerError("The text encoder", f"cond_stage_model.{name}", worker)


@functools.cache
def _clip_class(base: Any) -> Any:
    """The proxies' class; `base` is the host's, or another pack's."""

    class WorkerCLIP(base):  # type: ignore[misc]
        """Everything that is no computation is the host's own CLIP."""

        @property
        def cond_stage_model(self) -> WeightsAlone:
            """The weights, for what reads their names and shapes."""
            return WeightsAlone(vars(self)["cond_stage_model"], worker_of(self))

        def clone(self, *arguments: Any, **named: Any) -> Any:
            found: RemoteCLIP = vars(self)[REMOTE]
            clone = super().clone(*arguments, **named)
            return _proxy_of_clip(clone, self, RemoteCLIP(found.location, found.offload_device))

        def get_sd(self) -> Any:
            original: Any = original_clip(self)
            return original.get_sd()

        def load_model(self, *_: Any, **__: Any) -> Any:
            """Schedules of hooks and saving of merged weights ask for this. Raises always."""
            raise NotOnWorkerError("The text encoder", "load_model", worker_of(self))

    def worker_of(clip: Any) -> str:
        return str(vars(clip)[REMOTE].location.worker.plan.name)

    def computing(name: str) -> Callable[..., Any]:
        names = list(inspect.signature(getattr(base, name)).parameters)[2:]

        def compute(self: Any, tokens: "Tokens", *arguments: Any, **named: Any) -> Any:
            named |= dict(zip(names, arguments, strict=False))
            location: There = vars(self)[REMOTE].location
            handle = _handle_of_clip(self)
            answer = location.call(serve_encoding, handle, self.layer_idx, name, tokens, named)
            return self.add_hooks_to_dict(answer) if isinstance(answer, dict) else answer

        return compute

    for name in ("encode_from_tokens", "generate"):
        if hasattr(base, name):
            setattr(WorkerCLIP, name, computing(name))
    return WorkerCLIP


def serve_text_encoder(network: "nn.Module") -> "CLIP":
    """A CLIP of the host around the network that was sent, without patches."""
    host.note_dtypes(network)
    clip: CLIP = host.text_encoder(network.eval())
    return clip


def serve_patches(
    clip: "CLIP",
    patches: Mapping[str, Any],
    identity: Any,
    options: dict[str, Any],
    device: "torch.device",
    offload_device: "torch.device | None",
) -> "CLIP":
    """`clip`'s twin with LoRAs and the like, on a device. `identity` is the patches' own."""
    twin = clip.clone()
    twin.patcher.patches = {name: list(rows) for name, rows in patches.items()}
    twin.patcher.patches_uuid = identity
    twin.patcher.model_options = options
    return local.place_clip(twin, device, offload_device)[0]


def serve_encoding(
    clip: "CLIP", layer: int | None, method: str, tokens: "Tokens", named: Mapping[str, Any]
) -> Any:
    """What a CLIP's method makes of tokens, with the layer that was set in the host."""
    clip.layer_idx = layer
    return getattr(clip, method)(tokens, **named)
