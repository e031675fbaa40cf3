"""The only module that imports ComfyUI. Named accessors, each importing when it is called.

Every other module imports, and is tested, without a ComfyUI tree.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
        directml=getattr(args, "directml", None) is not None,
        force_intel_xpu=bool(getattr(args, "force_intel_xpu", False)),
        default_device=getattr(args, "default_device", None),
    )


def run_on_cpu() -> None:
    """As if --cpu had been given. Has no effect once the model management is imported."""
    from comfy.cli_args import args

    args.cpu = True


def imports_ipex() -> bool:
    """Whether this host imports IPEX where it is installed: those up to 0.3.75 do."""
    from comfy.cli_args import args

    return hasattr(args, "disable_ipex_optimize")


def switch_off_ipex_optimize() -> bool:
    """As if --disable-ipex-optimize had been given. Returns False if the host has no such thing."""
    from comfy.cli_args import args

    if not imports_ipex():
        return False
    args.disable_ipex_optimize = True
    return True


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


def sub_quadratic_attention() -> Callable[..., Any]:
    """The host's attention of --use-quad-cross-attention."""
    from comfy.ldm.modules import attention

    return attention.attention_sub_quad


def efficient_dot_product_attention() -> Callable[..., Any]:
    """The host's core of sub-quadratic attention, as its own module has it."""
    from comfy.ldm.modules import sub_quadratic_attention

    return sub_quadratic_attention.efficient_dot_product_attention


@dataclass(frozen=True)
class LoadedModel:
    """A model that the host keeps on a device now. Sizes are in bytes."""

    name: str
    """The class of the network: "BaseModel", "SD1ClipModel"."""
    device: str
    loaded: int
    """What of it is on the device."""
    size: int


def loaded_models() -> list[LoadedModel]:
    """The models that the host keeps on devices now, in its own order, most recent first."""
    import comfy.model_management

    found = []
    for loaded in list(comfy.model_management.current_loaded_models):
        # The host refers to it weakly, and it may go at any time.
        patcher = loaded.model
        if patcher is not None:
            name = type(patcher.model).__name__
            sizes = int(patcher.loaded_size()), int(patcher.model_size())
            found.append(LoadedModel(name, str(loaded.device), *sizes))
    return found


def version() -> str:
    """ComfyUI's version: "0.3.47"."""
    from comfyui_version import __version__

    return str(__version__)


def changed_arguments() -> dict[str, Any]:
    """The command-line arguments that differ from their defaults, by their Python names.

    As they stand now: the host and prestartup scripts change some after parsing.
    """
    from comfy.cli_args import args, parser

    return {name: value for name, value in vars(args).items() if value != parser.get_default(name)}


def computes_in_16_bits(device: "torch.device") -> tuple[bool, bool]:
    """Whether the host computes in fp16 and in bf16 on `device`."""
    import comfy.model_management as management

    return bool(management.should_use_fp16(device)), bool(management.should_use_bf16(device))


def stores_fp8(device: "torch.device") -> bool:
    """Whether the host keeps fp8 weights as they are on `device`."""
    import comfy.model_management
    import torch

    return bool(comfy.model_management.supports_cast(device, torch.float8_e4m3fn))


def device_stats(device: "torch.device") -> dict[str, Any]:
    """A row of `/system_stats`: its keys, their order, and its figures as the host has them."""
    import comfy.model_management as management

    total, torch_total = management.get_total_memory(device, torch_total_too=True)
    free, torch_free = management.get_free_memory(device, torch_free_too=True)
    return {
        "name": management.get_torch_device_name(device),
        "type": device.type,
        "index": device.index,
        "vram_total": total,
        "vram_free": free,
        "torch_vram_total": torch_total,
        "torch_vram_free": torch_free,
    }


def server() -> Any | None:
    """The `PromptServer` of this process, or None where no server runs: in probes and scripts."""
    # Never imported: whoever runs a server has imported it, and others do not want one.
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)
