"""Clones of the host's ModelPatchers for other devices."""

import copy
import uuid
import weakref
from typing import Any

from .. import host
from .weights import make_whole

_KEY = "comfyui-ipex placed"

_ANCHORS: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
"""By a loader's patcher: patchers of the same model for other devices."""

_ROOTS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""By an anchor: a weak reference to the patcher that it stands for."""

_TWINS: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
"""By a network: patchers of copies of it in other dtypes."""

# What the host notes on a network about where it is loaded; a copy is nowhere yet.
_NOTES = (
    "device",
    "current_weight_patches_uuid",
    "lowvram_patch_counter",
    "model_loaded_weight_memory",
    "model_lowvram",
    "model_offload_buffer_memory",
)


def retarget(patcher: Any, device: Any, offload_device: Any) -> Any:
    """A clone of a ModelPatcher that loads on `device` and leaves for `offload_device`.

    The weights are shared with the original, and move when either is loaded.
    """
    if host.is_tied_to_its_device(patcher) and patcher.load_device != device:
        return recast(patcher, None, device, offload_device)
    placed = host.clone_for_device(patcher, device)
    # Whoever loads them next may use them where they are: the original, or a clone for the CPU.
    host.on_changes(
        placed, _KEY, lambda one: make_whole(one.model), lambda one, _: make_whole(one.model)
    )
    placed.offload_device = offload_device
    if placed.load_device == device and placed.model is patcher.model:
        return placed
    placed.load_device = device
    # The host skips loading when a clone with the same patches is already fully loaded,
    # wherever that is: the device must therefore be part of the patches' identity. It is
    # derived, not random, so that running the node again does not cause a reload.
    placed.patches_uuid = uuid.uuid5(placed.patches_uuid, str(device))
    # When a clone that is loaded is dropped, the host goes on with its parent, and takes for
    # granted that it has the same device.
    placed.parent = _anchor(patcher, device) if placed.model is patcher.model else None
    return placed


def _anchor(patcher: Any, device: Any) -> Any:
    """A patcher of the same model for `device`, which lives as long as the loader's own one."""
    root = patcher
    while root.parent is not None:
        root = root.parent
    root = _ROOTS.get(root, lambda: None)() or root
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
        _ROOTS[anchor] = weakref.ref(root)
    return anchors[device]


def recast(patcher: Any, dtype: Any, device: Any, offload_device: Any) -> Any:
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


def copied(network: Any, dtype: Any = None) -> Any:
    """A copy of `network` on the CPU, its floats in `dtype`; None leaves them as they are.

    What the host has noted on the network about its device is left out.
    """
    import torch

    memo: dict[int, Any] = {}
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
