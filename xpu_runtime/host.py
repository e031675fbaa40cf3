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


def model_patcher_class() -> Any:
    """The class under which the host manages a model's memory; never the dynamic one."""
    import comfy.model_patcher

    return comfy.model_patcher.ModelPatcher


def offload_device() -> "torch.device":
    """Where the host keeps models that are not loaded."""
    import comfy.model_management

    return comfy.model_management.unet_offload_device()


def free_memory(device: "torch.device") -> int:
    """Bytes that are free on `device`, the allocator's cache included."""
    import comfy.model_management

    return int(comfy.model_management.get_free_memory(device))


def load_whole(patcher: Any, memory_required: int) -> None:
    """Load a model as a whole, and free `memory_required` bytes beside it if possible."""
    import comfy.model_management

    comfy.model_management.load_models_gpu(
        [patcher], memory_required=memory_required, force_full_load=True
    )


def unload(patcher: Any) -> None:
    """Take a model off its device now, whether or not the host knows that it is there."""
    import comfy.model_management

    loaded_models = comfy.model_management.current_loaded_models
    for loaded in [one for one in loaded_models if one.model is patcher]:
        loaded_models.remove(loaded)
        if loaded.model_finalizer is not None:
            loaded.model_finalizer.detach()
    patcher.detach()
    empty_caches()


def evict(device: "torch.device", memory_required: int) -> None:
    """Unload models from `device` until this many bytes are free, or none is left."""
    import comfy.model_management

    comfy.model_management.free_memory(memory_required, device)


def supports_half(device: "torch.device") -> tuple[bool, bool]:
    """Whether the host computes in fp16, and in bf16, on `device` if the model can."""
    import comfy.model_management as management

    return (
        bool(management.should_use_fp16(device, prioritize_performance=False)),
        bool(management.should_use_bf16(device)),
    )


def check_interrupted() -> None:
    """Raise the host's own exception if the user has stopped the workflow."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


def progress_bar(total: int) -> Any:
    """The progress bar of the running node: `update_absolute(done, total)`."""
    import comfy.utils

    return comfy.utils.ProgressBar(total)


def model_names(folder: str) -> list[str]:
    """The files in one of the host's model folders."""
    import folder_paths

    return list(folder_paths.get_filename_list(folder))


def model_path(folder: str, name: str) -> str:
    """The path of a file in one of the host's model folders. Raises `FileNotFoundError`."""
    import folder_paths

    return str(folder_paths.get_full_path_or_raise(folder, name))
