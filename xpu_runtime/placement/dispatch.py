"""What the Select Device nodes do: a component goes to the location that its widgets name.

What is given is never changed.
"""

from typing import TYPE_CHECKING, Any

from .. import devices, host
from . import local, remote
from .choice import Located, Offload, Placed, choose, choose_offload
from .location import Handle, Held, Here, Location, There

if TYPE_CHECKING:
    from ..host.types import CLIP, VAE, ControlBase, ModelPatcher

WITH_MODEL = "with model"
"""The request for the device of the model that a ControlNet steers."""


def locate_model(model: "ModelPatcher") -> tuple[Location, Handle]:
    return Here(model.load_device), Held(model)


def locate_vae(vae: "VAE") -> tuple[Location, Handle]:
    return remote.locate_vae(vae) or (Here(vae.device), Held(vae))


def place_model(model: "ModelPatcher", request: str, offload: str = devices.AUTO) -> Placed:
    """The ModelPatcher `model`, to be loaded on the device that `request` names.

    The weights move when the model is next loaded, under the host's own memory management.
    Raises `ValueError` if `request` or `offload` is no device name, or names a worker's device.
    """
    chosen = choose(request, "the model", host.primary_device)
    if isinstance(chosen.location, There):
        raise ValueError(
            f"A diffusion model cannot be placed on {chosen.location}, which is another process: "
            "it would be called there in every step. Place its CLIP, VAE or ControlNet there "
            "instead."
        )
    kept = choose_offload(offload, "the model", chosen.location)
    result = local.place_model(model, chosen.location.device, kept.device)
    return _report(result, chosen, kept)


def place_clip(clip: "CLIP", request: str, offload: str = devices.AUTO) -> Placed:
    """The text encoder `clip`, to be loaded on the device that `request` names.

    Raises `ValueError` if `request` or `offload` is no device name.
    """
    chosen = choose(request, "the text encoder", host.text_encoder_device)
    clip = remote.original_clip(clip)
    kept = choose_offload(offload, "the text encoder", chosen.location)
    if isinstance(chosen.location, There):
        return _report(remote.place_clip(clip, chosen.location, kept.device), chosen, kept)
    result, warning = local.place_clip(clip, chosen.location.device, kept.device)
    if warning:
        chosen = Located(Here(result.patcher.load_device), warning)
    return _report(result, chosen, kept)


def place_vae(vae: "VAE", request: str, offload: str = devices.AUTO) -> Placed:
    """The VAE `vae`, to be loaded on the device that `request` names.

    Raises `ValueError` if `request` or `offload` is no device name, and the host's own error
    if there is no VAE in it.
    """
    vae = remote.original_vae(vae)
    vae.throw_exception_if_invalid()
    chosen = choose(request, "the VAE", host.vae_device)
    kept = choose_offload(offload, "the VAE", chosen.location)
    if isinstance(chosen.location, There):
        return _report(remote.place_vae(vae, chosen.location, kept.device), chosen, kept)
    return _report(local.place_vae(vae, chosen.location.device, kept.device), chosen, kept)


def place_controlnet(
    control: "ControlBase",
    request: str,
    offload: str = devices.AUTO,
    model: "ModelPatcher | None" = None,
) -> Placed:
    """The ControlNet `control`, to be loaded on the device that `request` names.

    `WITH_MODEL` is the device of `model`. On any other device it gets hints, noise and
    conditioning copied there in every step, and its answer copied back. Raises `ValueError` if
    `request` is no device name, or if `model` is missing, and `TypeError` for T2I adapters and
    Control-LoRAs, which take the host's own device whenever they are applied.
    """
    chosen = _locate_controlnet(request, model)
    control = remote.original_controlnet(control)
    own = local.as_controlnet(control)
    if own is None:
        if chosen.location == Here(host.primary_device()):
            return _report(control.copy(), chosen, Offload(None))
        raise TypeError(
            f"A {type(control).__name__} cannot be placed on {chosen.location}: ComfyUI runs it on "
            f"{host.primary_device()} whenever it is applied. Set its device to 'auto'."
        )
    kept = choose_offload(offload, "the ControlNet", chosen.location)
    if isinstance(chosen.location, There):
        return _report(remote.place_controlnet(own, chosen.location, kept.device), chosen, kept)
    return _report(local.place_controlnet(own, chosen.location.device, kept.device), chosen, kept)


def _locate_controlnet(request: str, model: "ModelPatcher | None") -> Located:
    if request != WITH_MODEL:
        return choose(request, "the ControlNet", host.primary_device)
    if model is None:
        raise ValueError(
            "The ControlNet is to run with its model, but no model is connected. Connect the "
            "model that it steers, after its own Select Device, or name a device."
        )
    return Located(locate_model(model)[0])


def _report(result: Any, chosen: Located, kept: Offload) -> Placed:
    return Placed(result, chosen.location, tuple(filter(None, (chosen.warning, kept.warning))))
