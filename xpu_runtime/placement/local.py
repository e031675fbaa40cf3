"""Components on devices of this process, under the host's own memory management.

`offload_device` None is where the component itself waits while it is not needed.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .. import host
from .choice import warned
from .patchers import recast, retarget

if TYPE_CHECKING:
    import torch

    from ..host.types import CLIP, VAE, ControlBase, ControlNet, DiffusionModel, ModelPatcher


def place_model(
    model: "ModelPatcher", device: "torch.device", offload_device: "torch.device | None"
) -> "ModelPatcher":
    """A clone of `model` that loads on `device`, and computes in what that device can."""
    placed = retarget(model, device, offload_device or model.offload_device)
    if placed.load_device != model.load_device:
        network = cast("DiffusionModel", placed.model)
        supported = network.model_config.supported_inference_dtypes
        cast_to = host.manual_cast_dtype(placed.model_dtype(), device, supported)
        if cast_to != placed.get_model_object("manual_cast_dtype"):
            identity = placed.patches_uuid
            placed.set_model_compute_dtype(cast_to)
            placed.patches_uuid = identity
    return placed


def place_clip(
    clip: "CLIP", device: "torch.device", offload_device: "torch.device | None"
) -> "tuple[CLIP, str]":
    """A clone of `clip` that loads on `device`, and a warning.

    Text encoders compute in the dtype of their input, whatever their weights are in. A device
    that cannot cast from these is a warning, and the host's own choice is taken.
    """
    dtypes = getattr(clip.cond_stage_model, "dtypes", ())
    wrong = [str(dtype) for dtype in dtypes if not host.casts_from(device, dtype)]
    warning = ""
    if wrong:
        auto = host.text_encoder_device()
        reason = f"{device} cannot use the text encoder's weights in {', '.join(wrong)}"
        device, warning = auto, warned(f"{reason}. It runs on auto ({auto}) instead.")
    placed = clip.clone()
    placed.patcher = retarget(clip.patcher, device, offload_device or clip.patcher.offload_device)
    placed.cond_stage_model = placed.patcher.model
    host.compute_where_loaded(placed)
    return placed, warning


def place_vae(vae: "VAE", device: "torch.device", offload_device: "torch.device | None") -> "VAE":
    """A copy of `vae` that loads on `device`.

    Where the host would compute in another dtype on that device, the weights are copied.
    """
    offload_device = offload_device or vae.patcher.offload_device
    placed = copy.copy(vae)
    placed.device = device
    if not keeps_dtype(vae):
        placed.vae_dtype = host.vae_dtype(device, vae.working_dtypes)
    placed.patcher = retarget(vae.patcher, device, offload_device)
    if placed.vae_dtype != vae.vae_dtype:
        placed.patcher = recast(placed.patcher, placed.vae_dtype, device, offload_device)
    placed.first_stage_model = placed.patcher.model
    return placed


def keeps_dtype(vae: "VAE") -> bool:
    """Whether somebody chose the dtype of `vae`: the host would take another one."""
    return bool(vae.vae_dtype != host.vae_dtype(vae.device, vae.working_dtypes))


def as_controlnet(control: "ControlBase") -> "ControlNet | None":
    """`control` if it has a network of its own; None for T2I adapters and Control-LoRAs."""
    has_network = getattr(control, "control_model_wrapped", None) is not None
    return cast("ControlNet", control) if has_network else None


def place_controlnet(
    control: "ControlNet", device: "torch.device", offload_device: "torch.device | None"
) -> "ControlNet":
    """A copy of `control` whose network loads on `device`; it is called from any device."""
    network = control.control_model_wrapped
    placed = control.copy()
    patcher = retarget(network, device, offload_device or network.offload_device)
    placed.control_model_wrapped = patcher
    model: Any = patcher.model
    placed.control_model = CalledFromAnywhere(model, device)
    placed.load_device = device
    if device != network.load_device:
        placed.manual_cast_dtype = host.manual_cast_dtype(model.dtype, device)
        if placed.manual_cast_dtype is not None:
            patcher.force_cast_weights = True
    return placed


class CalledFromAnywhere:
    """A network on one device whose callers are on any.

    What is passed to it moves to its device, and what it answers to the caller's. A ControlNet
    hands it on to its copies, which are made whenever it is applied.
    """

    def __init__(self, network: Any, device: "torch.device") -> None:
        self._network = network
        self._device = device

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The network's answer, on the device of the first tensor that is passed."""
        home = find_device([*inputs, *named.values()])
        if home is None or home == self._device:
            return self._network(*inputs, **named)
        sent = move_tensors((inputs, named), self._device, {})
        answer = self._network(*sent[0], **sent[1])
        return move_tensors(answer, home, {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy that is being made has no network yet
            raise AttributeError(name)
        return getattr(self._network, name)


def find_device(values: Iterable[Any]) -> "torch.device | None":
    import torch

    return next((value.device for value in values if isinstance(value, torch.Tensor)), None)


def move_tensors(value: Any, device: "torch.device", memo: "dict[int, torch.Tensor]") -> Any:
    """`value` with every tensor in it on `device`; what was one tensor stays one.

    `memo` has those that were moved, by their ids.
    """
    import torch

    if isinstance(value, torch.Tensor):
        if id(value) not in memo:
            # Cards of different makers cannot copy to each other.
            near = value if device.type in (value.device.type, "cpu") else value.to("cpu")
            memo[id(value)] = near.to(device)
        return memo[id(value)]
    if isinstance(value, list | tuple):
        return type(value)(move_tensors(part, device, memo) for part in value)
    if isinstance(value, Mapping):
        return {name: move_tensors(part, device, memo) for name, part in value.items()}
    return value
