"""Diffusion models, text encoders and VAEs on chosen devices."""

import copy
from typing import Any

from .. import devices, host
from . import elsewhere
from .choice import Located, Offload, Placed, choose, choose_offload, warned
from .location import Here, There
from .patchers import recast, retarget


def place_model(model: Any, request: str, offload: str = devices.AUTO) -> Placed:
    """The ModelPatcher `model`, to be loaded on the device that `request` names.

    The weights move when the model is next loaded, under the host's own memory management.
    Raises `ValueError` if `request` or `offload` is no device name.
    """
    chosen = choose(request, "the model", host.primary_device)
    if isinstance(chosen.location, There):
        raise ValueError(
            f"A diffusion model cannot be placed on {chosen.location}, which is another process: "
            "it would be called there in every step. Place its CLIP, VAE or ControlNet there "
            "instead."
        )
    device = chosen.location.device
    kept = choose_offload(offload, "the model", chosen.location)
    placed = retarget(model, device, kept.device or model.offload_device)
    if placed.load_device != model.load_device:
        supported = placed.model.model_config.supported_inference_dtypes
        cast = host.manual_cast_dtype(placed.model_dtype(), device, supported)
        if cast != placed.get_model_object("manual_cast_dtype"):
            identity = placed.patches_uuid
            placed.set_model_compute_dtype(cast)
            placed.patches_uuid = identity
    return _placed(placed, chosen, kept)


def place_clip(clip: Any, request: str, offload: str = devices.AUTO) -> Placed:
    """The text encoder `clip`, to be loaded on the device that `request` names.

    Text encoders compute in the dtype of their input, whatever their weights are in. Raises
    `ValueError` if `request` or `offload` is no device name.
    """
    chosen = choose(request, "the text encoder", host.text_encoder_device)
    clip = elsewhere.own_clip(clip)
    if isinstance(chosen.location, There):
        return elsewhere.place_clip(clip, chosen, offload)
    wrong = [
        str(dtype)
        for dtype in getattr(clip.cond_stage_model, "dtypes", ())
        if not host.casts_from(chosen.location.device, dtype)
    ]
    if wrong:
        auto = host.text_encoder_device()
        reason = f"{chosen.location} cannot use the text encoder's weights in {', '.join(wrong)}"
        chosen = Located(Here(auto), warned(f"{reason}. It runs on auto ({auto}) instead."))
    kept = choose_offload(offload, "the text encoder", chosen.location)
    placed = clip.clone()
    placed.patcher = retarget(
        clip.patcher, chosen.location.device, kept.device or clip.patcher.offload_device
    )
    placed.cond_stage_model = placed.patcher.model
    host.compute_where_loaded(placed)
    return _placed(placed, chosen, kept)


def place_vae(vae: Any, request: str, offload: str = devices.AUTO) -> Placed:
    """The VAE `vae`, to be loaded on the device that `request` names.

    Where the host would compute in another dtype on that device, the weights are copied.
    Raises `ValueError` if `request` or `offload` is no device name, and the host's own error
    if there is no VAE in it.
    """
    vae = elsewhere.own_vae(vae)
    vae.throw_exception_if_invalid()
    chosen = choose(request, "the VAE", host.vae_device)
    if isinstance(chosen.location, There):
        return elsewhere.place_vae(vae, chosen, offload)
    device = chosen.location.device
    kept = choose_offload(offload, "the VAE", chosen.location)
    offload_device = kept.device or vae.patcher.offload_device
    placed = copy.copy(vae)
    placed.device = device
    placed.vae_dtype = _vae_dtype(vae, device)
    placed.patcher = retarget(vae.patcher, device, offload_device)
    if placed.vae_dtype != vae.vae_dtype:
        placed.patcher = recast(placed.patcher, placed.vae_dtype, device, offload_device)
    placed.first_stage_model = placed.patcher.model
    return _placed(placed, chosen, kept)


def _vae_dtype(vae: Any, device: Any) -> Any:
    """What the host would compute in on `device`; a dtype that someone chose is kept."""
    if vae.vae_dtype != host.vae_dtype(vae.device, vae.working_dtypes):
        return vae.vae_dtype
    return host.vae_dtype(device, vae.working_dtypes)


def _placed(result: Any, chosen: Located, kept: Offload) -> Placed:
    return Placed(result, chosen.location, tuple(filter(None, (chosen.warning, kept.warning))))
