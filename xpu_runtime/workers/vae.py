"""A VAE of the host whose network runs in a worker."""

import copy
import functools
from typing import TYPE_CHECKING, Any

from .. import host
from ..placement.location import There
from . import Resident, served
from .calls import Residents
from .errors import NotOnWorkerError
from .wire import itself

if TYPE_CHECKING:
    import torch

_COMPUTES = ("decode", "decode_tiled", "encode", "encode_tiled")

# What belongs to this process's copy of the weights.
_ELSEWHERE = ("first_stage_model", "patcher")

_STATE = "ipex_on_worker"

_RESIDENTS = Residents()


def on_worker(vae: Any, place: There, offload: "torch.device | None") -> Any:
    """A proxy of `vae`, with all its attributes, whose encoding and decoding is the worker's.

    The weights are sent when they are first needed. `offload` is the worker's device for them
    while they are not, or "auto".
    """
    vae = original(vae)
    proxy = copy.copy(vae)
    proxy.__class__ = _proxy_class(type(vae))
    keeps_dtype = vae.vae_dtype != host.vae_dtype(vae.device, vae.working_dtypes)
    what = (keeps_dtype, place.device, offload)
    resident = _RESIDENTS.shared(
        vae,
        (place.worker.plan.name, *what),
        lambda: Resident(place.worker, served.vae, _Sent(vae), *what),
    )
    for name in _ELSEWHERE:
        vars(proxy).pop(name, None)
    vars(proxy)[_STATE] = (vae, resident)
    return proxy


def original(vae: Any) -> Any:
    """What `vae` was before it was placed on a worker."""
    return vars(vae)[_STATE][0] if _STATE in vars(vae) else vae


def resident_of(vae: Any) -> Resident | None:
    """What a worker keeps of `vae`; None if it is no proxy."""
    return vars(vae)[_STATE][1] if _STATE in vars(vae) else None


class _Sent:
    """Crosses as the VAE itself, without what only this process can use."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def __reduce__(self) -> Any:
        """How the pickler takes it."""
        host.without_patches(self._vae.first_stage_model)
        twin = copy.copy(self._vae)
        del twin.patcher
        return (itself, (twin,))


@functools.cache
def _proxy_class(base: Any) -> Any:
    """The class, made when it is first needed: its base belongs to the host."""

    class WorkerVAE(base):  # type: ignore[misc]
        """Everything that is no computation is the original's."""

        def throw_exception_if_invalid(self) -> None:
            """As for the original."""
            original(self).throw_exception_if_invalid()

        def get_sd(self) -> Any:
            """The original's weights, for saving."""
            return original(self).get_sd()

        def model_size(self) -> int:
            """Bytes of the weights, in the host's copy."""
            return int(original(self).model_size())

        def is_dynamic(self) -> bool:
            """Newer hosts ask whether this process moves its weights while it runs."""
            return False

    def elsewhere(name: str) -> property:
        def missing(self: Any) -> Any:
            raise NotOnWorkerError("The VAE", name, vars(self)[_STATE][1].worker.plan.name)

        return property(missing)

    def computed(name: str) -> Any:
        def method(self: Any, *arguments: Any, **named: Any) -> Any:
            resident = vars(self)[_STATE][1]
            answer = resident.worker.call(served.called, resident, name, arguments, named)
            return answer.to(self.output_device)

        return method

    for name in _COMPUTES:
        if hasattr(base, name):
            setattr(WorkerVAE, name, computed(name))
    for name in _ELSEWHERE:
        setattr(WorkerVAE, name, elsewhere(name))
    return WorkerVAE
