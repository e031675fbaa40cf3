"""The models that the host keeps on devices, and how they come and go."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .devices import empty_caches

if TYPE_CHECKING:
    import torch


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


def loaded_devices() -> "list[torch.device]":
    """The devices on which the host has models now, each once."""
    import comfy.model_management

    return list(dict.fromkeys(m.device for m in comfy.model_management.current_loaded_models))


def is_loaded(patcher: Any) -> bool:
    """Whether the host has this ModelPatcher loaded; it has not if loading failed."""
    import comfy.model_management

    return any(m.model is patcher for m in comfy.model_management.current_loaded_models)


def is_whole(patcher: Any) -> bool:
    """Whether all weights of a ModelPatcher that was just loaded are on its device."""
    return not getattr(patcher.model, "model_lowvram", False)


def clone_for_device(model: Any, device: "torch.device") -> Any:
    """A clone of a ModelPatcher that may be loaded on `device`; the original is not changed.

    Newer hosts have dynamic patchers, whose weights are tied to the device they were made for:
    for another device the host's own factory makes a plain patcher. Raises `RuntimeError` if
    the model's loader gave the host no factory (`is_tied_to_its_device`).
    """
    if is_dynamic(model) and model.load_device != device:
        return model.clone(disable_dynamic=True)
    return model.clone()


def is_tied_to_its_device(model: Any) -> bool:
    """Whether a ModelPatcher is a dynamic one that the host can make no plain one of."""
    return is_dynamic(model) and model.cached_patcher_init is None


def is_dynamic(model: Any) -> bool:
    """Whether a newer host moves this ModelPatcher's weights while the model runs."""
    asked = getattr(model, "is_dynamic", None)
    return asked is not None and bool(asked())


def plain_clone(model: Any) -> Any:
    """A clone of a ModelPatcher that keeps its weights where they are loaded.

    A dynamic one stays dynamic if its loader gave the host no way to make a plain one.
    """
    if is_dynamic(model) and not is_tied_to_its_device(model):
        return model.clone(disable_dynamic=True)
    return model.clone()


def model_patcher_class() -> Any:
    """The class under which the host manages a model's memory; never the dynamic one."""
    import comfy.model_patcher

    return comfy.model_patcher.ModelPatcher


def compute_where_loaded(clip: Any) -> None:
    """Have a text encoder compute on its patcher's load device when nothing of it fits there.

    Hosts before 0.33 compute on the device of the input embeddings, which stay behind then.
    On an XPU those are loaded at least; for NVIDIA's cards hosts may have pinned them.
    """
    import comfy.patcher_extension

    encoders = [part for part in clip.cond_stage_model.modules() if hasattr(part, "transformer")]
    if any(hasattr(encoder, "execution_device") for encoder in encoders):
        return

    def load_embeddings(patcher: Any, device_to: Any, *_: Any) -> None:
        for encoder in encoders:
            find = getattr(encoder.transformer, "get_input_embeddings", None)
            if find is not None and getattr(device_to, "type", None) == "xpu":
                find().to(device_to)

    clip.patcher.add_callback(comfy.patcher_extension.CallbacksMP.ON_LOAD, load_embeddings)


def note_dtypes(network: Any) -> None:
    """Have newer hosts remember the dtypes of a network's weights, as their loaders do."""
    import comfy.model_management

    # By its name: comfy-import-guard takes an attribute that older hosts lack for a mistake.
    note = vars(comfy.model_management).get("archive_model_dtypes")
    if note is not None:
        note(network)


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


def forget_unloaded() -> None:
    """Take models off the host's list that it has unloaded.

    It does so itself at the end of a round; an error in the round leaves them there, and each
    later round fails at them.
    """
    import comfy.model_management

    loaded = comfy.model_management.current_loaded_models
    loaded[:] = [one for one in loaded if one.real_model is not None]


def evict(device: "torch.device", memory_required: float, keep: Any = None) -> None:
    """Unload models from `device` until this many bytes are free, or none but `keep` is left.

    `keep` is a ModelPatcher.
    """
    import comfy.model_management as management

    kept = [one for one in management.current_loaded_models if one.model is keep]
    management.free_memory(memory_required, device, kept if keep is not None else [])


def free_everything_on(device: "torch.device") -> None:
    evict(device, 1e30)


def sub_quadratic_attention() -> Callable[..., Any]:
    """The host's attention of --use-quad-cross-attention."""
    from comfy.ldm.modules import attention

    return attention.attention_sub_quad


def efficient_dot_product_attention() -> Callable[..., Any]:
    """The host's core of sub-quadratic attention, as its own module has it."""
    from comfy.ldm.modules import sub_quadratic_attention

    return sub_quadratic_attention.efficient_dot_product_attention
