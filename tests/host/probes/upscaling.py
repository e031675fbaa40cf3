"""Runs inside a host's process on an emulated card: upscale models under its management.

usage: upscaling.py EXTENSION MODELS        (working directory: the host's tree)
Prints one line of JSON: for each function below, what it saw, or the traceback of what broke.
"""

import asyncio
import contextlib
import inspect
import pickle
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
import folder_paths  # noqa: E402
import torch  # noqa: E402
from spandrel import MAIN_REGISTRY, MaskedImageModelDescriptor  # noqa: E402

import nodes  # noqa: E402

MIB = 1 << 20
NAME = "mini_esrgan_x2.safetensors"
XPU = torch.device("xpu:0")
folder_paths.add_model_folder_path("upscale_models", str(MODELS / "upscale_models"))
loaded = nodes.load_custom_node(EXTENSION)
assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded


class InjectedError(Exception):
    """Breaks a model on purpose."""


def load(precision: str = "fp32", name: str = NAME) -> Any:
    """An upscale model from our loader, for the emulated card."""
    return nodes.NODE_CLASS_MAPPINGS["IpexUpscaleModelLoader"]().load(name, "xpu:0", precision)[0]


def upscale(model: Any, image: torch.Tensor, **widgets: Any) -> torch.Tensor:
    """What our node makes of `image`."""
    with torch.inference_mode():
        result = nodes.NODE_CLASS_MAPPINGS["IpexUpscaleImage"]().upscale(model, image, **widgets)
    return result[0]


def picture(side: int = 64) -> torch.Tensor:
    """Always the same."""
    return torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(3))


def on_card() -> int:
    """Bytes of tensors on the card."""
    return torch.xpu.memory_allocated(0)


def the_model_is_loaded_once_and_unloads_with_the_others() -> dict[str, Any]:
    """Two runs, then the host unloads everything."""
    model = load()
    upscale(model, picture())
    after_one = on_card()
    upscale(model, picture())
    entries = len(mm.current_loaded_models)
    mm.unload_all_models()
    return {"after one": after_one, "entries": entries, "left": on_card()}


def many_runs_do_not_grow() -> list[int]:
    """Bytes on the card after each of six runs, of two models in turn."""
    first, second = load(), load("fp16")
    seen = []
    for model in (first, second, first, second, first, second):
        upscale(model, picture())
        seen.append(on_card())
    mm.unload_all_models()
    return seen


def an_error_takes_the_model_off_the_card() -> dict[str, Any]:
    """An error in the model, and an interrupt, in the middle of a run."""

    def fail(*_: Any) -> None:
        raise InjectedError

    model = load()
    upscale(model, picture())
    hook = model.model.register_forward_hook(fail)
    left = {}
    with contextlib.suppress(InjectedError):
        upscale(model, picture())
    left["error"] = on_card()
    hook.remove()
    mm.interrupt_current_processing()
    with contextlib.suppress(mm.InterruptProcessingException):
        upscale(model, picture())
        raise AssertionError("the interrupt was not seen")
    left["interrupt"] = on_card()
    left["entries"] = len(mm.current_loaded_models)
    left["works again"] = list(upscale(model, picture()).shape)
    mm.unload_all_models()
    return left


def an_interrupt_ends_the_search_for_the_halo() -> dict[str, Any]:
    """The user stops Upscale Model Info while a test picture is computed."""
    model = load()
    name = next(name for name in sys.modules if name.endswith(".nodes.upscale.model"))
    known = sys.modules[name].HALOS
    known.clear()
    pictures = []

    def stop(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].device == XPU:
            pictures.append(inputs[0].shape)
            mm.interrupt_current_processing()

    hook = model.model.register_forward_pre_hook(stop)
    describe = nodes.NODE_CLASS_MAPPINGS["IpexUpscaleModelInfo"]().describe
    with contextlib.suppress(mm.InterruptProcessingException):
        describe(model)
        raise AssertionError("the interrupt was not seen")
    hook.remove()
    seen = {"pictures": len(pictures), "known": len(known), "left": on_card()}
    text = describe(model)["result"][0]
    mm.unload_all_models()
    return {**seen, "again": "halo: " in text}


def pressure_evicts_the_model_whole() -> dict[str, Any]:
    """The host wants a little memory: all weights leave, and the next run loads them again."""
    model = load()
    reference = upscale(model, picture())
    mm.free_memory(1e30, XPU)
    left = on_card()
    again = upscale(model, picture())
    devices = {str(weight.device) for weight in model.model.parameters()}
    mm.load_models_gpu([model.patcher], force_full_load=False)
    partly = {str(weight.device) for weight in model.model.parameters()}
    mm.unload_all_models()
    return {
        "left": left,
        "same": torch.equal(reference, again),
        "devices": sorted(devices | partly),
    }


def the_hosts_own_node_takes_the_model() -> dict[str, Any]:
    """In fp32 and half, before and after ours, and ours takes the host's model."""
    from comfy_extras import nodes_upscale_model as host_nodes

    node = host_nodes.ImageUpscaleWithModel()
    run = getattr(node, "upscale", None) or node.execute
    differences = {}
    for precision in ("fp32", "fp16"):
        model = load(precision)
        ours = upscale(model, picture())
        with torch.inference_mode():
            theirs = run(model, picture())[0].cpu()
        again = upscale(model, picture())
        differences[precision] = float((ours - theirs).abs().max())
        differences[f"{precision} again"] = float((ours - again).abs().max())
        mm.unload_all_models()
    loader = host_nodes.UpscaleModelLoader()
    with torch.inference_mode():
        own = loader.load_model(NAME)[0]
    differences["host's loader"] = float(
        (upscale(own, picture()) - upscale(load(), picture())).abs().max()
    )
    mm.unload_all_models()
    return differences


def sizes_channels_and_tiles() -> dict[str, Any]:
    """Shapes for targets, gray and alpha; tiles against the whole picture."""
    model = load()
    image = picture(80)
    rgba = torch.cat([image, image[..., :1]], -1)
    shapes = {
        "own": upscale(model, image),
        "scale_by": upscale(model, image, scale_by=1.5),
        "width": upscale(model, image, width=100),
        "both": upscale(model, image, width=50, height=70),
        "gray": upscale(model, image[..., :1]),
        "rgba": upscale(model, rgba),
        "batch": upscale(model, image.repeat(3, 1, 1, 1), batch=2, scale_by=1.0),
    }
    found: dict[str, Any] = {name: list(value.shape) for name, value in shapes.items()}
    tiled = upscale(model, image, tile=30)
    found["tiles differ by"] = float((tiled - shapes["own"]).abs().max())
    found["info"] = nodes.NODE_CLASS_MAPPINGS["IpexUpscaleModelInfo"]().describe(model)["result"][0]
    mm.unload_all_models()
    return found


class Filler(torch.nn.Module):
    """Fills what a mask marks with a number that it has learned."""

    def __init__(self) -> None:
        super().__init__()
        self.shade = torch.nn.Parameter(torch.tensor(0.25))

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """As LaMa and MAT are called."""
        return image * (1 - mask) + self.shade * mask


def masked_model() -> Any:
    """A spandrel model that takes a mask."""
    return MaskedImageModelDescriptor(
        Filler(),
        {"shade": torch.tensor(0.25)},
        architecture=MAIN_REGISTRY["LaMa"].architecture,
        purpose="Inpainting",
        tags=[],
        supports_half=False,
        supports_bfloat16=True,
        input_channels=3,
        output_channels=3,
    )


def models_for_other_purposes_get_a_clear_answer() -> dict[str, Any]:
    """Inpainting, its masks, and models for faces."""
    fill = nodes.NODE_CLASS_MAPPINGS["IpexInpaintWithModel"]().inpaint
    image, mask = picture().repeat(2, 1, 1, 1), torch.zeros(1, 64, 64)
    mask[:, 10:20, 30:50] = 1
    masked = masked_model()
    (filled,) = fill(masked, image, mask)
    inside = filled[:, 10:20, 30:50].clone()
    filled[:, 10:20, 30:50] = image[:, 10:20, 30:50]
    found = {"shade": sorted(set(inside.unique().tolist())), "kept": torch.equal(filled, image)}
    mm.unload_all_models()
    face = load()
    face._purpose = "FaceSR"
    attempts: dict[str, Callable[[], Any]] = {
        "inpainting": lambda: upscale(masked, picture()),
        "face": lambda: upscale(face, picture()),
        "no mask": lambda: fill(load(), image, mask),
        "mask size": lambda: fill(masked, image, torch.zeros(1, 8, 8)),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except ValueError as error:
            found[name] = str(error)
    return found


def wrong_files_are_named() -> dict[str, str]:
    """What the loader says about files that hold no model."""
    good = (MODELS / "upscale_models" / NAME).read_bytes()
    files = {
        "empty.safetensors": b"",
        "cut.safetensors": good[: len(good) // 2],
        "text.pth": b"no checkpoint at all",
        "code.pth": pickle.dumps({"weights": InjectedError}),
    }
    said = {}
    with tempfile.TemporaryDirectory() as folder:
        folder_paths.add_model_folder_path("upscale_models", folder)
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        torch.save({"some.weight": torch.zeros(2)}, Path(folder, "other.pth"))
        for name in [*files, "other.pth"]:
            try:
                load(name=name)
            except ValueError as error:
                said[name] = str(error)
    return said


CHECKS: tuple[Callable[[], Any], ...] = (
    the_model_is_loaded_once_and_unloads_with_the_others,
    many_runs_do_not_grow,
    an_error_takes_the_model_off_the_card,
    an_interrupt_ends_the_search_for_the_halo,
    pressure_evicts_the_model_whole,
    the_hosts_own_node_takes_the_model,
    sizes_channels_and_tiles,
    models_for_other_purposes_get_a_clear_answer,
    wrong_files_are_named,
)

if __name__ == "__main__":
    print_answers(CHECKS)
