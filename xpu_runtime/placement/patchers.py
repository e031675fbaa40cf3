"""Clones of the host's ModelPatchers for other devices."""

import copy
import uuid
import weakref
from typing import TYPE_CHECKING

from .. import host

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..host.types import ModelPatcher

_KEY = "comfyui-ipex placed"

_ANCHORS: "weakref.WeakKeyDictionary[ModelPatcher, dict[torch.device, ModelPatcher]]"
_ANCHORS = weakref.WeakKeyDictionary()
"""By a loader's patcher: patchers of the same network for other devices. An entry goes with the
loader's patcher."""

_TWINS: "weakref.WeakKeyDictionary[nn.Module, dict[torch.dtype | None, ModelPatcher]]"
_TWINS = weakref.WeakKeyDictionary()
"""By a network: patchers of copies of it in other dtypes. An entry goes with the network."""

# What the host notes on a network about where it is loaded; a copy is nowhere yet.
_NOTES = (
    "device",
    "current_weight_patches_uuid",
    "lowvram_patch_counter",
    "model_loaded_weight_memory",
    "model_lowvram",
    "model_offload_buffer_memory",
)


def retarget(
    patcher: "ModelPatcher", device: "torch.device", offload_device: "torch.device"
) -> "ModelPatcher":
    """A clone of a ModelPatcher that loads on `device` and leaves for `offload_device`.

    The weights are shared with the original, and move when either is loaded.
    """
    if host.is_tied_to_its_device(patcher) and patcher.load_device != device:
        return recast(patcher, None, device, offload_device)
    clone: ModelPatcher = host.clone_for_device(patcher, device)
    # Whoever loads them next may use them where they are: the original, or a clone for the CPU.
    host.on_changes(
        clone,
        _KEY,
        lambda one: replace_halves(one.model),
        lambda one, _: replace_halves(one.model),
    )
    clone.offload_device = offload_device
    if clone.load_device == device and clone.model is patcher.model:
        return clone
    clone.load_device = device
    # The host skips loading when a clone with the same patches is already fully loaded,
    # wherever that is: the device must therefore be part of the patches' identity. It is
    # derived, not random, so that running the node again does not cause a reload.
    clone.patches_uuid = uuid.uuid5(clone.patches_uuid, str(device))
    # When a clone that is loaded is dropped, the host goes on with its parent, and takes for
    # granted that it has the same device.
    clone.parent = _anchor(patcher, device) if clone.model is patcher.model else None
    return clone


def _anchor(patcher: "ModelPatcher", device: "torch.device") -> "ModelPatcher":
    """A patcher of the same network for `device`, which lives as long as the loader's own one."""
    root = patcher
    while root.parent is not None:
        root = root.parent
    # A patcher that was placed before ends in an anchor.
    for loader, anchors in list(_ANCHORS.items()):
        if any(anchor is root for anchor in anchors.values()):
            root = loader
    if root.load_device == device:
        return root
    anchors = _ANCHORS.setdefault(root, {})
    if device not in anchors:
        anchor = root.clone()
        anchor.load_device = device
        anchor.patches_uuid = uuid.uuid5(root.patches_uuid, str(device))
        # A reference to the root would keep it alive for ever.
        anchor.parent = None
        anchors[device] = anchor
    return anchors[device]


def recast(
    patcher: "ModelPatcher",
    dtype: "torch.dtype | None",
    device: "torch.device",
    offload_device: "torch.device",
) -> "ModelPatcher":
    """A patcher of a copy of the network whose weights are in `dtype`; made once a dtype.

    Weights cannot be shared by users that need them in different dtypes. None keeps theirs.
    """
    twins = _TWINS.setdefault(patcher.model, {})
    if dtype not in twins:
        twin = copied(patcher.model, dtype)
        twins[dtype] = host.model_patcher_class()(twin, device, offload_device)
    cast = retarget(twins[dtype], device, offload_device)
    cast.patches = {name: list(patches) for name, patches in patcher.patches.items()}
    cast.patches_uuid = uuid.uuid5(cast.patches_uuid, str(patcher.patches_uuid))
    return cast


def copied(network: "nn.Module", dtype: "torch.dtype | None" = None) -> "nn.Module":
    """A copy of `network` on the CPU, its floats in `dtype`; None leaves them as they are.

    What the host has noted on the network about its device is left out.
    """
    import torch

    memo: dict[int, object] = {}
    for value in (*network.parameters(), *network.buffers()):
        target = dtype if dtype is not None and value.is_floating_point() else value.dtype
        fresh = value.detach().to("cpu", target, copy=True)
        if isinstance(value, torch.nn.Parameter):
            fresh = torch.nn.Parameter(fresh, requires_grad=False)
        memo[id(value)] = fresh
    twin = copy.deepcopy(network, memo)
    for name in _NOTES:
        vars(twin).pop(name, None)
    host.note_dtypes(twin)
    return twin


def replace_halves(network: "nn.Module") -> None:
    """Replace the parameters of `network` that are halfway out of inference mode.

    The host loads weights in inference mode and moves them outside of it ("Unload models"). A
    parameter takes on the new tensor's keys then and stays without a version counter, and what
    makes a view of it raises "Inference tensors do not track version counter". Nobody notices
    where weights are moved once more before they are used; a text encoder that is placed on the
    CPU uses them where they lie. Values are not copied, and tied parameters stay tied.
    """
    import torch

    replaced: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if type(parameter) is not torch.nn.Parameter or _has_version(parameter):
                continue
            if id(parameter) not in replaced:
                fresh = torch.nn.Parameter(parameter.data, requires_grad=False)
                vars(fresh).update(vars(parameter))
                replaced[id(parameter)] = parameter, fresh  # the old one keeps its id
            module._parameters[name] = replaced[id(parameter)][1]


def _has_version(parameter: "nn.Parameter") -> bool:
    """Whether it is wholly in inference mode, or wholly out of it."""
    if parameter.is_inference():
        return True
    try:
        return parameter._version >= 0
    except RuntimeError:  # there is no other way to ask
        return False
