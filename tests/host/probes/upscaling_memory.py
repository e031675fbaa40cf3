"""Runs inside a host's process on an emulated card: what upscaling keeps, and what it gives up.

usage: upscaling_memory.py EXTENSION MODELS        (working directory: the host's tree)
Prints one line of JSON: for each function below, what it saw, or the traceback of what broke.
"""

import asyncio
import gc
import inspect
import operator
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from answering import print_answers

sys.path.insert(0, str(Path.cwd()))
EXTENSION, MODELS = sys.argv[1], Path(sys.argv[2])
sys.argv = ["main.py"]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management as mm  # noqa: E402
import comfy.model_patcher  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
import xpu_emulator  # noqa: E402
from architecture_table import weights  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from spandrel import MAIN_REGISTRY  # noqa: E402

import nodes  # noqa: E402

MIB = 1 << 20

# Of the pictures that are filled: one takes 25 MiB.
SIDE = 192

NAME = "mini_esrgan_x2.safetensors"
CARD = xpu_emulator.current().devices[0]
XPU = torch.device("xpu:0")
# Kept to the end: the host lists its models' folders again whenever a name is checked.
FOLDER = tempfile.TemporaryDirectory()
folder_paths.add_model_folder_path("upscale_models", str(MODELS / "upscale_models"))
folder_paths.add_model_folder_path("upscale_models", FOLDER.name)
loaded = nodes.load_custom_node(EXTENSION)
assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded
LOADER = nodes.NODE_CLASS_MAPPINGS["IpexUpscaleModelLoader"]
UPSCALE = nodes.NODE_CLASS_MAPPINGS["IpexUpscaleImage"]
ARCHITECTURE = operator.attrgetter("architecture")
INPAINT = nodes.NODE_CLASS_MAPPINGS["IpexInpaintWithModel"]


def on_card() -> int:
    """Bytes of tensors on the card."""
    return torch.xpu.memory_allocated(0)


def storages() -> int:
    """How many pieces of memory tensors of this process hold now, on any device."""
    gc.collect()
    alive = (one for one in gc.get_objects() if issubclass(type(one), torch.Tensor))
    return len({one.untyped_storage()._cdata for one in alive if one.device.type != "meta"})


def five_runs_keep_nothing() -> dict[str, Any]:
    """In tiles, whole, and with alpha: what is left after each of five rounds."""
    seen = []
    with torch.inference_mode():
        for _ in range(5):
            model = LOADER().load(NAME, "xpu:0", "fp32")[0]
            for channels, tile in ((3, 0), (3, 30), (4, 0)):
                UPSCALE().upscale(model, torch.rand(2, 64, 64, channels), tile=tile)
            seen.append((storages(), on_card()))
    mm.unload_all_models()
    return {"storages": [one for one, _ in seen], "bytes": [held for _, held in seen]}


def another_file_of_the_same_name_is_another_model() -> list[bool]:
    """IS_CHANGED and the loader, for the same file, and for one that was written anew."""
    path = Path(FOLDER.name, "changing.safetensors")
    shutil.copy(MODELS / "upscale_models" / NAME, path)
    widgets = {"model_name": path.name, "device": "xpu:0", "precision": "fp32"}
    first, model = LOADER.IS_CHANGED(**widgets), LOADER().load(**widgets)[0]
    again, same = LOADER.IS_CHANGED(**widgets), LOADER().load(**widgets)[0]
    status = path.stat()
    weights = load_file(path)
    save_file({name: weight * 0.5 for name, weight in weights.items()}, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    changed, other = LOADER.IS_CHANGED(**widgets), LOADER().load(**widgets)[0]
    return [first == again, model is same, first != changed, model is not other]


def lama() -> Any:
    """A LaMa network of the real size, with random weights."""
    (architecture,) = (
        a for a in map(ARCHITECTURE, MAIN_REGISTRY.architectures()) if a.id == "LaMa"
    )
    save_file(weights(architecture), Path(FOLDER.name, "lama.safetensors"))
    return LOADER().load("lama.safetensors", "xpu:0", "fp32")[0]


class Ballast(torch.nn.Module):
    """Weights that nobody runs."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(size, dtype=torch.uint8))


def filled(model: Any) -> Any:
    """The filled picture, or what is said instead, and what stays on the card."""
    image, mask = torch.rand(1, SIDE, SIDE, 3), torch.zeros(1, SIDE, SIDE)
    mask[:, 20:60, 20:60] = 1
    try:
        with torch.inference_mode():
            return list(INPAINT().inpaint(model, image, mask)[0].shape)
    except RuntimeError as error:
        return [str(error), on_card()]


def inpainting_plans_its_memory() -> dict[str, Any]:
    """Beside another model that is in its way, beside another program, and out of luck."""
    total, model = torch.xpu.mem_get_info(0)[1], lama()
    found = {"alone": filled(model)}
    for size in (100, 300):
        filled(model)
        other = Ballast(size * MIB)
        patcher = comfy.model_patcher.ModelPatcher(other, XPU, torch.device("cpu"))
        mm.load_models_gpu([patcher], force_full_load=True)
        torch.xpu.empty_cache()
        CARD.change(external_memory=total - torch.xpu.memory_reserved(0) - 8 * MIB)
        found[f"beside a model of {size} MiB"] = [filled(model), str(other.weight.device)]
        CARD.change(external_memory=0)
        mm.unload_all_models()
    filled(model)
    held = on_card()
    mm.unload_all_models()
    CARD.change(external_memory=total - held - 24 * MIB)
    found["beside a program"] = filled(model)
    CARD.change(external_memory=0)
    for name in ("torch", "out_of_device_memory"):
        filled(model)
        torch.xpu.empty_cache()
        CARD.change(oom=name)
        CARD.fail_allocation(6)
        found[name] = filled(model)
    mm.unload_all_models()
    return found


CHECKS: tuple[Callable[[], Any], ...] = (
    five_runs_keep_nothing,
    another_file_of_the_same_name_is_another_model,
    inpainting_plans_its_memory,
)

if __name__ == "__main__":
    print_answers(CHECKS)
