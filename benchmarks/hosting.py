"""ComfyUI's modules in a bench process."""

import importlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

REPOSITORY = Path(__file__).resolve().parent.parent


def find_tree(given: Path | None) -> Path | None:
    """The ComfyUI tree to use: the one that is given, COMFYUI_DIR, or the one around this folder.

    Raises `ValueError` if one is named that is none.
    """
    named = given or (Path(os.environ["COMFYUI_DIR"]) if os.environ.get("COMFYUI_DIR") else None)
    if named is not None:
        tree = named.expanduser().resolve()
        if not (tree / "comfy" / "model_management.py").exists():
            raise ValueError(f"{tree} is no ComfyUI: it has no comfy/model_management.py.")
        return tree
    around = REPOSITORY.parent.parent
    return around if (around / "comfy" / "model_management.py").exists() else None


def version(tree: Path) -> str:
    """The version that a tree states, or "" if it states none."""
    stated = tree / "comfyui_version.py"
    found = (
        re.search(r'"([\d.]+)"', stated.read_text(encoding="utf-8")) if stated.exists() else None
    )
    return found[1] if found else ""


def start_host(tree: Path, device: "torch.device") -> None:
    """Import ComfyUI's model management on `device`, with this extension's changes in it."""
    import torch

    sys.path.insert(0, str(tree))
    sys.argv = ["main.py", *(["--cpu"] if device.type == "cpu" else [])]
    if device.type != "cpu":
        getattr(torch, device.type).set_device(device)
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("comfy.model_management")
    importlib.import_module("comfyui_ipex.xpu_runtime.runtime").start()
