"""A component of a workflow, placed on a chosen device."""

import uuid
from typing import Any

from . import devices, host
from .log import LOGGER


def device_for(request: str, component: str) -> Any:
    """The torch device that a Select Device widget means in this process.

    "auto", and with a warning also a device that is absent here, mean the host's own choice.
    Raises `ValueError` if `request` is no device name.
    """
    import torch

    if request == devices.AUTO:
        return host.primary_device()
    available = devices.discover()
    found = devices.find(request, available)
    if found is not None:
        return torch.device(found)
    chosen = host.primary_device()
    LOGGER.warning(
        "Select Device: %s is set to %r, which this machine does not have (it has %s). "
        "It runs on auto (%s) instead.",
        component,
        request,
        ", ".join(device.name for device in available),
        chosen,
    )
    return chosen


def place_model(model: Any, request: str) -> Any:
    """A clone of the ModelPatcher `model` that loads on the device that `request` names.

    The weights move when the model is next loaded, under the host's own memory management.
    Raises `ValueError` if `request` is no device name.
    """
    device = device_for(request, "the model")
    placed = _retarget(model, device)
    if placed.load_device == model.load_device:
        return placed
    supported = placed.model.model_config.supported_inference_dtypes
    cast = host.manual_cast_dtype(placed.model_dtype(), device, supported)
    if cast != placed.get_model_object("manual_cast_dtype"):
        identity = placed.patches_uuid
        placed.set_model_compute_dtype(cast)
        placed.patches_uuid = identity
    return placed


def place_controlnet(control: Any, request: str) -> Any:
    """A copy of the ControlNet `control` whose network loads on the device `request` names.

    Hints, noise and conditioning follow by themselves: the host moves them to the sampler's
    device. Raises `ValueError` if `request` is no device name, `TypeError` for T2I adapters
    and Control-LoRAs, which take the host's own device whenever they are applied.
    """
    device = device_for(request, "the ControlNet")
    placed = control.copy()
    network = getattr(placed, "control_model_wrapped", None)
    if network is None:
        if device == host.primary_device():
            return placed
        raise TypeError(
            f"A {type(control).__name__} cannot be placed on {device}: ComfyUI runs it on "
            f"{host.primary_device()} whenever it is applied. Set its device to 'auto'."
        )
    placed.control_model_wrapped = _retarget(network, device)
    placed.load_device = device
    if device != network.load_device:
        placed.manual_cast_dtype = host.manual_cast_dtype(placed.control_model.dtype, device)
        if placed.manual_cast_dtype is not None:
            placed.control_model_wrapped.force_cast_weights = True
    return placed


def _retarget(patcher: Any, device: Any) -> Any:
    """A clone of a ModelPatcher that loads on `device`."""
    placed = host.clone_for_device(patcher, device)
    if placed.load_device != device:
        placed.load_device = device
        # The host skips loading when a clone with the same patches is already fully loaded,
        # wherever that is: the device must therefore be part of the patches' identity. It is
        # derived, not random, so that running the node again does not cause a reload.
        placed.patches_uuid = uuid.uuid5(placed.patches_uuid, str(device))
    return placed
