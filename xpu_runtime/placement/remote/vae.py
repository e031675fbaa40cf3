"""VAEs whose network a worker runs.

A proxy is the host's own object in all that is no computation. Functions called `serve_` make
and call the network in the worker.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import host
from ...workers import NotOnWorkerError, Resident
from ...workers.wire import itself
from .. import local
from ..location import Handle, Location, There
from .handles import HANDLES, REMOTE

if TYPE_CHECKING:
    import torch

    from ...host.types import VAE

_ONLY_HERE = ("first_stage_model", "patcher")
"""What belongs to this process's copy of the weights."""


@dataclass(frozen=True)
class RemoteVAE:
    """What the proxy of a VAE stands for."""

    original: "VAE"
    location: There
    handle: Resident


def locate_vae(vae: "VAE") -> tuple[Location, Handle] | None:
    """Where the proxy's VAE runs, and a handle on it there; None if `vae` is no proxy."""
    found: RemoteVAE | None = vars(vae).get(REMOTE)
    return None if found is None else (found.location, found.handle)


def original_vae(vae: "VAE") -> "VAE":
    """What `vae` was before it was placed on a worker."""
    found: RemoteVAE | None = vars(vae).get(REMOTE)
    return vae if found is None else found.original


def place_vae(vae: "VAE", location: There, offload_device: "torch.device | None") -> "VAE":
    """A proxy of `vae`, with all its attributes, whose encoding and decoding is the worker's.

    The weights are sent when they are first needed. `offload_device` is the worker's, for the
    weights while they are not needed; None: where it keeps VAEs.
    """
    vae = original_vae(vae)
    settings = (local.keeps_dtype(vae), location.device, offload_device)
    handle = HANDLES.share(
        vae,
        (location.worker.plan.name, *settings),
        lambda: location.hold(serve_vae, SentVAE(vae), *settings),
    )
    proxy = copy.copy(vae)
    proxy.__class__ = _vae_class(type(vae))
    for name in _ONLY_HERE:
        vars(proxy).pop(name, None)
    vars(proxy)[REMOTE] = RemoteVAE(vae, location, handle)
    return proxy


class SentVAE:
    """Crosses as the VAE itself, without what only this process can use."""

    def __init__(self, vae: "VAE") -> None:
        self._vae = vae

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        host.without_patches(self._vae.first_stage_model)
        twin = copy.copy(self._vae)
        del twin.patcher
        return (itself, (twin,))


@functools.cache
def _vae_class(base: Any) -> Any:
    """The proxies' class; `base` is the host's, or another pack's."""

    class WorkerVAE(base):  # type: ignore[misc]
        """Everything that is no computation is the original's."""

        def throw_exception_if_invalid(self) -> None:
            original_vae(self).throw_exception_if_invalid()

        def get_sd(self) -> Any:
            return original_vae(self).get_sd()

        def model_size(self) -> int:
            return int(original_vae(self).model_size())

        def is_dynamic(self) -> bool:
            """Newer hosts ask whether this process moves its weights while it runs."""
            return False

    def refusing(name: str) -> property:
        def refuse(self: Any) -> Any:
            raise NotOnWorkerError("The VAE", name, vars(self)[REMOTE].location.worker.plan.name)

        return property(refuse)

    def computing(name: str) -> Callable[..., Any]:
        def compute(self: Any, *arguments: Any, **named: Any) -> Any:
            found: RemoteVAE = vars(self)[REMOTE]
            answer = found.location.call(serve_method, found.handle, name, arguments, named)
            return answer.to(self.output_device)

        return compute

    for name in ("decode", "decode_tiled", "encode", "encode_tiled"):
        if hasattr(base, name):
            setattr(WorkerVAE, name, computing(name))
    for name in _ONLY_HERE:
        setattr(WorkerVAE, name, refusing(name))
    return WorkerVAE


def serve_vae(
    vae: "VAE", keeps_dtype: bool, device: "torch.device", offload_device: "torch.device | None"
) -> "VAE":
    """The VAE that `vae` was in the host, under this process's memory management.

    It came without a patcher. `keeps_dtype`: somebody chose its dtype, and it stays.
    """
    network = vae.first_stage_model.eval()
    vae.device = host.vae_device()
    vae.output_device = host.intermediate_device()
    if not keeps_dtype:
        vae.vae_dtype = host.vae_dtype(vae.device, vae.working_dtypes)
        network.to(vae.vae_dtype)
    host.note_dtypes(network)
    patcher = host.model_patcher_class()
    vae.patcher = patcher(network, vae.device, host.vae_offload_device())
    return local.place_vae(vae, device, offload_device)


def serve_method(
    owner: object, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> Any:
    return getattr(owner, name)(*arguments, **named)
