"""The host in a process without a server, and what a server tells such a process."""

import re
from collections.abc import Callable, Mapping
from typing import Any

# Arguments that decide about dtypes and attention; others are about one machine or one server.
_COMPUTES = re.compile(
    r"(?:fp|bf)\d+_\w+|supports_fp8_compute|force_(?:fp|bf)\d+|force_upcast_attention"
    r"|dont_upcast_attention|use_\w+_attention|deterministic|reserve_vram"
)


def computing_arguments(changed: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the changed command-line arguments that decide what is computed, and in what."""
    return {name: value for name, value in changed.items() if _COMPUTES.fullmatch(name)}


def take_arguments(values: Mapping[str, Any]) -> None:
    """As if these had been given on the command line; before the model management is imported."""
    from comfy.cli_args import args

    for name, value in values.items():
        setattr(args, name, value)


def load_model_management() -> None:
    """Import the host's model management, which looks for devices, and what loads models."""
    import comfy.model_management
    import comfy.sd  # noqa: F401


def folder_table() -> dict[str, tuple[list[str], list[str]]]:
    """The host's folders and file name extensions by kind of model."""
    import folder_paths

    return {
        kind: (list(folders), sorted(extensions))
        for kind, (folders, extensions) in folder_paths.folder_names_and_paths.items()
    }


def use_model_folders(table: Mapping[str, tuple[list[str], list[str]]]) -> None:
    """Look for models where another process of this host does: `folder_table`'s answer there."""
    import folder_paths

    for kind, (folders, extensions) in table.items():
        folder_paths.folder_names_and_paths[kind] = (list(folders), set(extensions))


def tree() -> str:
    """The folder of the running host's code."""
    from pathlib import Path

    import folder_paths

    return str(Path(folder_paths.__file__).resolve().parent)


def watch_progress(note: Callable[[int, int], None]) -> None:
    """Have every progress bar of this process tell `note` how much is done, of how much."""
    import comfy.utils

    comfy.utils.set_progress_bar_global_hook(lambda done, total, *_, **__: note(done, total))


def interrupt() -> None:
    """What runs in this process is to stop at its next chance."""
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)


def forget_interruption() -> None:
    """What runs next is not to be stopped by an earlier wish."""
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(False)


def interruption() -> BaseException:
    """The host's own exception for a workflow that the user has stopped."""
    import comfy.model_management

    return comfy.model_management.InterruptProcessingException()


def is_interruption(error: BaseException) -> bool:
    """Whether `error` is the host's for a workflow that the user has stopped."""
    import comfy.model_management

    return isinstance(error, comfy.model_management.InterruptProcessingException)


def forget_unused_models() -> None:
    """Take from devices what nothing refers to any more."""
    import gc

    import comfy.model_management

    gc.collect()
    comfy.model_management.cleanup_models()
    comfy.model_management.soft_empty_cache()


def without_patches(network: Any) -> None:
    """Unload a network from wherever it is, so that its weights are those of its file."""
    import comfy.model_management as management

    for loaded in list(management.current_loaded_models):
        if loaded.model is not None and loaded.model.model is network:
            loaded.model_unload()
            management.current_loaded_models.remove(loaded)


def text_encoder(network: Any) -> Any:
    """A CLIP of the host around `network`, without a tokenizer, for the host's own device."""
    import comfy.hooks
    import comfy.model_management as management
    import comfy.sd
    from comfy.model_patcher import ModelPatcher

    clip = comfy.sd.CLIP(no_init=True)
    clip.cond_stage_model = network
    clip.tokenizer = None
    device, offload = management.text_encoder_device(), management.text_encoder_offload_device()
    clip.patcher = ModelPatcher(network, load_device=device, offload_device=offload)
    clip.patcher.hook_mode = comfy.hooks.EnumHookMode.MinVram
    clip.patcher.is_clip = True
    clip.layer_idx = None
    clip.use_clip_schedule = False
    clip.apply_hooks_to_conds = None
    clip.tokenizer_options = {}
    return clip


def intermediate_device() -> Any:
    """Where the host keeps what passes from node to node."""
    import comfy.model_management

    return comfy.model_management.intermediate_device()


def load(patcher: Any) -> None:
    """Load a model, in parts if the host finds that right."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([patcher])
