"""ControlNets on chosen devices, their model's or their own."""

from collections.abc import Mapping
from typing import Any

from .. import devices, host
from . import elsewhere
from .choice import Located, Placed, choose, choose_offload
from .location import Here, There
from .patchers import retarget

WITH_MODEL = "with model"
"""The request for the device of the model that is given along."""


class CalledFromAnywhere:
    """A network on one device whose callers are on any.

    What is passed to it moves to its device, and what it answers to the caller's. A ControlNet
    hands it on to its copies, which are made whenever it is applied.
    """

    def __init__(self, network: Any, device: Any) -> None:
        self._network = network
        self._device = device

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The network's answer, on the device of the first tensor that is passed."""
        home = device_in([*inputs, *named.values()])
        if home is None or home == self._device:
            return self._network(*inputs, **named)
        memo: dict[int, Any] = {}
        sent = moved((inputs, named), self._device, memo)
        answer = self._network(*sent[0], **sent[1])
        return moved(answer, home, {})

    def __getattr__(self, name: str) -> Any:
        """Everything else is the network's own."""
        if name.startswith("_"):  # a copy that is being made has no network yet
            raise AttributeError(name)
        return getattr(self._network, name)


def device_in(values: Any) -> Any:
    """The device of the first tensor among `values`, or None if there is none."""
    import torch

    return next((value.device for value in values if isinstance(value, torch.Tensor)), None)


def moved(value: Any, device: Any, memo: dict[int, Any]) -> Any:
    """`value` with every tensor in it on `device`; what was one tensor stays one."""
    import torch

    if isinstance(value, torch.Tensor):
        if id(value) not in memo:
            # Cards of different makers cannot copy to each other.
            near = value if device.type in (value.device.type, "cpu") else value.to("cpu")
            memo[id(value)] = near.to(device)
        return memo[id(value)]
    if isinstance(value, list | tuple):
        return type(value)(moved(part, device, memo) for part in value)
    if isinstance(value, Mapping):
        return {name: moved(part, device, memo) for name, part in value.items()}
    return value


def place_controlnet(
    control: Any, request: str, offload: str = devices.AUTO, model: Any = None
) -> Placed:
    """The ControlNet `control`, to be loaded on the device that `request` names.

    `WITH_MODEL` is the device of the ModelPatcher `model`. On any other device it gets hints,
    noise and conditioning copied there in every step, and its answer copied back. Raises
    `ValueError` if `request` is no device name, or if `model` is missing, and `TypeError` for
    T2I adapters and Control-LoRAs, which take the host's own device whenever they are applied.
    """
    chosen = _choice(request, model)
    control = elsewhere.own_controlnet(control)
    network = getattr(control, "control_model_wrapped", None)
    placed = control.copy()
    if network is None:
        if chosen.location == Here(host.primary_device()):
            return Placed(placed, chosen.location, chosen.warnings)
        raise TypeError(
            f"A {type(control).__name__} cannot be placed on {chosen.location}: ComfyUI runs it on "
            f"{host.primary_device()} whenever it is applied. Set its device to 'auto'."
        )
    if isinstance(chosen.location, There):
        return elsewhere.place_controlnet(control, chosen, offload)
    device = chosen.location.device
    kept = choose_offload(offload, "the ControlNet", chosen.location)
    patcher = retarget(network, device, kept.device or network.offload_device)
    placed.control_model_wrapped = patcher
    placed.control_model = CalledFromAnywhere(patcher.model, device)
    placed.load_device = device
    if device != network.load_device:
        placed.manual_cast_dtype = host.manual_cast_dtype(patcher.model.dtype, device)
        if placed.manual_cast_dtype is not None:
            patcher.force_cast_weights = True
    return Placed(placed, chosen.location, tuple(filter(None, (chosen.warning, kept.warning))))


def _choice(request: str, model: Any) -> Located:
    if request != WITH_MODEL:
        return choose(request, "the ControlNet", host.primary_device)
    if model is None:
        raise ValueError(
            "The ControlNet is to run with its model, but no model is connected. Connect the "
            "model that it steers, after its own Select Device, or name a device."
        )
    return Located(Here(model.load_device))
