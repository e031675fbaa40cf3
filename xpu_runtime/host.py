"""The only module that imports ComfyUI. Named accessors, each importing when it is called.

Every other module imports, and is tested, without a ComfyUI tree.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .priority import HostArguments

if TYPE_CHECKING:
    import torch


def primary_device() -> "torch.device":
    """The device that the host itself would run a model on now."""
    import comfy.model_management

    return comfy.model_management.get_torch_device()


def clone_for_device(model: Any, device: "torch.device") -> Any:
    """A clone of a ModelPatcher that may be loaded on `device`; the original is not changed.

    Newer hosts have dynamic patchers, whose weights are tied to the device they were made for:
    for another device the host's own factory makes a plain patcher. Raises `RuntimeError` if
    the model's loader gave the host no factory.
    """
    is_dynamic = getattr(model, "is_dynamic", None)
    if is_dynamic is not None and is_dynamic() and model.load_device != device:
        return model.clone(disable_dynamic=True)
    return model.clone()


def manual_cast_dtype(
    weight_dtype: "torch.dtype",
    device: "torch.device",
    supported: "Sequence[torch.dtype] | None" = None,
) -> "torch.dtype | None":
    """What the host would compute in on `device` with weights of `weight_dtype`.

    `supported` are the dtypes that the model's architecture can compute in; None means the
    host's default. The answer None means: in the dtype of the weights.
    """
    import comfy.model_management

    cast = comfy.model_management.unet_manual_cast
    if supported is None:
        return cast(weight_dtype, device)
    return cast(weight_dtype, device, supported)


def arguments() -> HostArguments:
    """What the command line says about devices."""
    from comfy.cli_args import args

    return HostArguments(
        cpu=bool(args.cpu),
        directml=args.directml is not None,
        force_intel_xpu=bool(getattr(args, "force_intel_xpu", False)),
        default_device=args.default_device,
    )


def runs_on_gpu() -> bool:
    """Whether the host looked for a GPU at all: not with --cpu, and not on Apple's MPS."""
    import comfy.model_management as management

    return bool(management.cpu_state == management.CPUState.GPU)


def forces_fp32() -> bool:
    """Whether the user asked for fp32 everywhere."""
    import comfy.model_management

    return bool(comfy.model_management.FORCE_FP32)


def forces_non_blocking() -> bool:
    """Whether the user asked for non-blocking copies; hosts before 0.3.52 cannot be asked to."""
    from comfy.cli_args import args

    return bool(getattr(args, "force_non_blocking", False))


def has(function: str) -> bool:
    """Whether the host's model management has a function of this name."""
    import comfy.model_management

    return hasattr(comfy.model_management, function)


def loaded_devices() -> "list[torch.device]":
    """The devices on which the host has models now, each once."""
    import comfy.model_management

    return list(dict.fromkeys(m.device for m in comfy.model_management.current_loaded_models))


def is_loaded(patcher: Any) -> bool:
    """Whether the host has this ModelPatcher loaded; it has not if loading failed."""
    import comfy.model_management

    return any(m.model is patcher for m in comfy.model_management.current_loaded_models)


def free_everything_on(device: "torch.device") -> None:
    """Unload every model from `device`."""
    import comfy.model_management

    comfy.model_management.free_memory(1e30, device)


def empty_caches() -> None:
    """Give the allocators' caches back to the drivers."""
    import comfy.model_management

    comfy.model_management.soft_empty_cache()


def names_used_by(function: str) -> frozenset[str]:
    """The global and attribute names in the code of a function of the host's model management.

    Empty if it does not exist or was replaced by something that is no Python function.
    """
    import comfy.model_management

    code = getattr(getattr(comfy.model_management, function, None), "__code__", None)
    return frozenset() if code is None else frozenset(code.co_names)
