"""Runs inside a host's process on an emulated card: every architecture that spandrel knows.

usage: architectures.py EXTENSION [ID ...]        (working directory: the host's tree)
Prints one line of JSON: for each architecture what is wrong with it, "" if nothing is, and how
long it took. A random network of each (tests/architecture_table.py) is saved, loaded by our loader,
run by our node, and compared with spandrel's own call of it on the CPU.
"""

import asyncio
import copy
import inspect
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
EXTENSION, WANTED = sys.argv[1], sys.argv[2:]
sys.argv = ["main.py"]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management as mm  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from architecture_table import TABLE, weights  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from spandrel import MAIN_REGISTRY  # noqa: E402

import nodes  # noqa: E402

# SPAN counts in 0 to 255, and RestoreFormer looks up the nearest of some codes.
TOLERANCE = 1e-4

FACE = 512

loaded = nodes.load_custom_node(EXTENSION)
assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded
OURS = next(name for name in sys.modules if name.endswith(".nodes.upscale.loading"))
add_extra_architectures = sys.modules[OURS].add_extra_architectures


def node(name: str) -> Any:
    """One of our nodes."""
    return nodes.NODE_CLASS_MAPPINGS[name]()


def pictures(frames: int, side: int, channels: int = 3) -> torch.Tensor:
    """Smooth, with noise, always the same."""
    generator = torch.Generator().manual_seed(4)
    smooth = torch.linspace(0, 1, side)[None, :, None, None] * torch.ones(side, 1)
    return smooth * 0.6 + torch.rand(frames, side, side, channels, generator=generator) * 0.4


def directly(model: Any, *inputs: torch.Tensor) -> torch.Tensor:
    """What spandrel's own call gives on the CPU, one picture after the other."""
    singles = zip(*(one.movedim(-1, 1).split(1) for one in inputs), strict=True)
    # Copies, because some networks write to their input.
    calls = (model(*(one.clone() for one in single)) for single in singles)
    return torch.cat(list(calls)).movedim(1, -1)


def difference(found: torch.Tensor, expected: torch.Tensor, random: str) -> str:
    """What is wrong with a result, "" if nothing is."""
    if found.shape != expected.shape:
        return f"{list(found.shape)} instead of {list(expected.shape)}"
    if not found.isfinite().all() or found.std() < 5 * TOLERANCE:
        return f"the numbers say nothing: {found.std()}"
    off = float((found - expected).abs().max())
    return f"off by {off}" if off > TOLERANCE and not random else ""


def enlarges(model: Any, reference: Any, random: str) -> str:
    """Two pictures at once, as the node plans it."""
    images = pictures(2, 24)
    gray = images @ torch.tensor([0.299, 0.587, 0.114])
    given = images if reference.input_channels == 3 else gray[..., None]
    expected = directly(reference, given)
    (found,) = node("IpexUpscaleImage").upscale(model, images)
    return difference(found, expected, random)


def restores_faces(model: Any, reference: Any, random: str) -> str:
    """A picture of the right size, and one of a wrong size."""
    try:
        node("IpexUpscaleImage").upscale(model, pictures(1, 64))
    except ValueError as error:
        assert f"{FACE}x{FACE}; this picture is 64x64" in str(error), error
    else:
        return "a picture of a wrong size was taken"
    if TABLE[reference.architecture.id].not_run:
        return ""
    images = pictures(1, FACE)
    (found,) = node("IpexUpscaleImage").upscale(model, images)
    return difference(found, directly(reference, images), random)


def fills_masks(model: Any, reference: Any, random: str) -> str:
    """A picture whose size the model would have padded; what is not masked stays."""
    images, mask = pictures(1, 60), torch.zeros(1, 60, 60)
    mask[:, 10:30, 20:50] = 1
    (found,) = node("IpexInpaintWithModel").inpaint(model, images, mask)
    kept = mask[..., None] == 0
    if not torch.equal(found * kept, images * kept):
        return "what was not masked changed"
    if reference.architecture.id == "MAT":  # which adds noise, and takes 5 s a call
        return "" if found[~kept.expand_as(found)].std() > 1e-3 else "nothing was filled in"
    expected = torch.where(kept, images, directly(reference, images, mask[..., None]))
    return difference(found, expected, random)


PURPOSES: dict[str, Callable[[Any, Any, str], str]] = {
    "SR": enlarges,
    "Restoration": enlarges,
    "FaceSR": restores_faces,
    "Inpainting": fills_masks,
}


def check(architecture: Any, folder: str) -> str:
    """What is wrong with one architecture, "" if nothing is."""
    file = f"{architecture.id}.safetensors"
    save_file(weights(architecture), Path(folder, file))
    model = node("IpexUpscaleModelLoader").load(file, "xpu:0", "fp32")[0]
    if model.architecture.id != architecture.id:
        return f"taken for {model.architecture.id}"
    reference = copy.copy(model)
    reference._model = copy.deepcopy(model.model)
    with torch.inference_mode():
        wrong = PURPOSES[model.purpose](model, reference, TABLE[architecture.id].random)
    devices = {weight.device.type for weight in model.model.parameters()}
    mm.unload_all_models()
    Path(folder, file).unlink()
    return wrong or ("" if devices <= {"xpu", "cpu"} else f"its weights are on {devices}")


def main() -> None:
    """Every architecture of the table, or those that are named."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        folder_paths.add_model_folder_path("upscale_models", folder)
        add_extra_architectures(MAIN_REGISTRY)
        for support in MAIN_REGISTRY.architectures():
            if WANTED and support.architecture.id not in WANTED:
                continue
            began = time.perf_counter()
            try:
                wrong = check(support.architecture, folder)
            except Exception:  # noqa: BLE001  (a check that breaks is an answer)
                wrong = traceback.format_exc()
            seconds = round(time.perf_counter() - began, 2)
            found[support.architecture.id] = {"wrong": wrong, "seconds": seconds}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
