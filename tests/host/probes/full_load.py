"""Runs inside a patched host's process: which loads are told to whoever optimises models?

usage: full_load.py        (working directory: the patched tree; on an emulated card)
Prints one line of JSON: {case: how often `patched.on_full_load` was called}.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
sys.argv = ["main.py"]
import comfy.options  # noqa: E402

# The host reads the command line when it is imported.
comfy.options.enable_args_parsing()

import comfy.model_management as mm  # noqa: E402
import comfy.ops  # noqa: E402
import torch  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from comfy.xpu_runtime import patched  # noqa: E402


class Layers(torch.nn.Module):
    """Linear layers of the host's own class, which it can load one by one."""

    def __init__(self) -> None:
        super().__init__()
        made = [comfy.ops.manual_cast.Linear(256, 256) for _ in range(4)]
        self.layers = torch.nn.ModuleList(made)


def patcher(device: str) -> ModelPatcher:
    """A model that is not loaded yet."""
    return ModelPatcher(Layers(), torch.device(device), torch.device("cpu"))


def calls(model: ModelPatcher, budget: int) -> int:
    """How often a load tells of itself, with so many bytes for weights; 0 means all of them."""
    told: list[Any] = []
    patched.on_full_load.append(told.append)
    loaded = mm.LoadedModel(model)
    try:
        loaded.model_load(budget)
    finally:
        patched.on_full_load.remove(told.append)
    assert all(one is model for one in told)
    loaded.model_unload()
    return len(told)


if __name__ == "__main__":
    answers = {
        "registered by default": len(patched.on_full_load),
        "whole on the card": calls(patcher("xpu:0"), 0),
        "in part on the card": calls(patcher("xpu:0"), 300_000),
        "whole on the CPU": calls(patcher("cpu"), 0),
    }
    sys.stdout.write(json.dumps(answers) + "\n")
