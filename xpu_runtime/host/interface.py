"""The host's server, its progress bar, and its folders."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STEPS = 1000


def server() -> Any | None:
    """The `PromptServer` of this process, or None where no server runs: in probes and scripts."""
    # Never imported: whoever runs a server has imported it, and others do not want one.
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)


def node_class(name: str) -> Any | None:
    """The class that a workflow's node of this name runs, or None where no nodes are loaded."""
    # Never imported: it is loaded with the server, and some probes and scripts do without.
    module = sys.modules.get("nodes")
    return getattr(module, "NODE_CLASS_MAPPINGS", {}).get(name)


def check_interrupted() -> None:
    """Raise the host's own exception if the user has stopped the workflow."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


def progress_bar(total: int) -> Any:
    """The progress bar of the running node: `update_absolute(done, total)`."""
    import comfy.utils

    return comfy.utils.ProgressBar(total)


@contextmanager
def part_of_progress(first: float, last: float) -> Iterator[None]:
    """Every progress bar that is made meanwhile fills this part of the running node's one bar."""
    import comfy.utils

    told = comfy.utils.PROGRESS_BAR_HOOK
    if told is None:
        yield
        return

    def scaled(done: float, total: float, *preview: Any, **named: Any) -> None:
        share = first + (last - first) * done / max(total, 1)
        told(round(_STEPS * share), _STEPS, *preview, **named)

    comfy.utils.set_progress_bar_global_hook(scaled)
    try:
        yield
    finally:
        comfy.utils.set_progress_bar_global_hook(told)


def model_names(folder: str) -> list[str]:
    """The files in one of the host's model folders."""
    import folder_paths

    return list(folder_paths.get_filename_list(folder))


def model_path(folder: str, name: str) -> str:
    """The path of a file in one of the host's model folders. Raises `FileNotFoundError`."""
    import folder_paths

    return str(folder_paths.get_full_path_or_raise(folder, name))


def model_folders(kind: str) -> list[str]:
    """The host's folders for models of this kind, the one for new files first.

    A kind that the host does not know is made known to it, as models/`kind`: after the folders
    that the user's extra_model_paths.yaml names for it.
    """
    import folder_paths

    folder_paths.add_model_folder_path(kind, os.path.join(folder_paths.models_dir, kind))
    return list(folder_paths.get_folder_paths(kind))


def pack_folders() -> list[str]:
    """The folders in which the host looks for custom nodes."""
    import folder_paths

    return list(folder_paths.get_folder_paths("custom_nodes"))
