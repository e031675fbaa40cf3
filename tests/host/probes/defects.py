"""Runs inside a host's process on emulated cards: which of its known defects show?

usage: defects.py MODELS EXTENSION NAME ...        (working directory: the host's tree)
Prints one line of JSON: for each name whether the defect shows, or the traceback of a check
that broke. Each function below stands for one row of docs/bare-hosts.md and returns True if a
user of this host would meet it. MODELS is the folder of the tests' checkpoints, EXTENSION that
of this extension, or "bare" to leave it out.
"""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
MODELS = Path(sys.argv[1])
EXTENSION = sys.argv[2]
WANTED = sys.argv[3:]
sys.argv = ["main.py"]
import comfy.options  # noqa: E402

# The host reads the command line when it is imported.
comfy.options.enable_args_parsing()

import comfy.model_management as mm  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.sd  # noqa: E402
import latent_preview  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
import xpu_emulator  # noqa: E402
from comfy.cli_args import LatentPreviewMethod, args  # noqa: E402
from comfy.ldm.flux import layers as flux_layers  # noqa: E402
from comfy.ldm.modules import attention  # noqa: E402
from comfy.ldm.modules.diffusionmodules import model as vae_model  # noqa: E402

import nodes  # noqa: E402

GIB = 1 << 30
MIB = 1 << 20

CARDS = xpu_emulator.current()
XPU = torch.device("xpu:0")
SECOND = torch.device("xpu:1")


class Layers(torch.nn.Module):
    """`count` linear layers of 32 MiB in fp16, which the host can load partially."""

    def __init__(self, count: int) -> None:
        super().__init__()
        operations = comfy.ops.manual_cast
        made = [
            operations.Linear(4096, 4096, bias=False, dtype=torch.float16) for _ in range(count)
        ]
        self.layers = torch.nn.ModuleList(made)


def patcher(count: int, device: torch.device) -> Any:
    """A host's ModelPatcher of `count` layers that loads on `device`."""
    return comfy.model_patcher.ModelPatcher(Layers(count), device, torch.device("cpu"))


def free_memory_ignores_other_programs() -> bool:
    """2.2 GiB in use elsewhere: does the host still count them as free?"""
    CARDS.devices[0].change(external_memory=int(2.2 * GIB))
    truth = torch.xpu.mem_get_info(0)[0]
    return mm.get_free_memory(XPU) > truth + 64 * MIB


def loading_dies_beside_other_programs() -> bool:
    """A model of SD1.5's size on a 3 GiB card with 2.2 GiB in use elsewhere."""
    CARDS.devices[0].change(external_memory=int(2.2 * GIB))
    model = patcher(50, XPU)
    try:
        mm.load_models_gpu([model])
    except torch.OutOfMemoryError:
        return True
    finally:
        model.detach()
        mm.current_loaded_models.clear()
    return False


def unload_forgets_the_second_card() -> bool:
    """Unload everything: does a model stay on xpu:1?"""
    model = patcher(2, SECOND)
    mm.load_models_gpu([model])
    mm.unload_all_models()
    left = torch.xpu.memory_allocated(1)
    model.detach()
    mm.current_loaded_models.clear()
    return left > 0


def previews_read_unfinished_copies() -> bool:
    """Is a preview another picture when copies to the CPU take their time?"""
    args.preview_method = LatentPreviewMethod.Latent2RGB
    latent_format = comfy.latent_formats.SD15()
    previewer = latent_preview.get_previewer(XPU, latent_format)
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(XPU)

    def preview() -> np.ndarray:
        return np.asarray(previewer.decode_latent_to_preview_image("JPEG", latent)[1])

    expected = preview()
    CARDS.set_options(async_copies=True)
    return not np.array_equal(preview(), expected)


def _vae_and_latent() -> tuple[Any, torch.Tensor]:
    weights = comfy.utils.load_torch_file(str(MODELS / "vae" / "mini_taesd.safetensors"))
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    return comfy.sd.VAE(sd=weights), latent


def vae_goes_on_without_its_weights() -> bool:
    """Memory runs out while the VAE is loaded: are tiles tried with weights on the CPU?"""
    vae, latent = _vae_and_latent()
    CARDS.devices[0].fail_allocation(1)
    try:
        vae.decode(latent)
    except RuntimeError as error:
        assert "same device" in str(error), error
        return True
    return False


def lost_card_ends_the_worker() -> bool:
    """The thread that runs prompts empties the cache between them: does that raise?"""
    CARDS.devices[0].lose()
    try:
        mm.soft_empty_cache()
    except RuntimeError as error:
        assert "DEVICE_LOST" in str(error), error
        return True
    return False


def level_zero_oom_is_not_oom() -> bool:
    """VAE decoding meets Level Zero's own out-of-memory text: no tiled decoding follows?"""
    vae, latent = _vae_and_latent()
    vae.decode(latent)
    torch.xpu.empty_cache()
    CARDS.devices[0].change(oom="out_of_device_memory")
    CARDS.devices[0].fail_allocation(1)
    try:
        vae.decode(latent)
    except RuntimeError as error:
        assert "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY" in str(error), error
        return True
    return False


def _exceeds_the_limit(function: Callable[..., torch.Tensor], *shape: int, **options: int) -> bool:
    """A card that grants 64 MiB at once and has no fused kernel: is it asked for more?"""
    CARDS.set_options(attention="math")
    CARDS.devices[0].change(max_allocation=64 * MIB)
    query = torch.randn(shape, dtype=torch.float16).to(XPU)
    with contextlib.suppress(torch.OutOfMemoryError):
        function(query, query, query, **options)
    return bool(CARDS.devices[0].counters()["ooms"] > 0)


def attention_exceeds_the_allocation_limit() -> bool:
    """The host's default attention on XPU: 4096 tokens in 8 heads."""
    return _exceeds_the_limit(attention.attention_pytorch, 1, 4096, 8 * 40, heads=8)


def sub_quadratic_attention_exceeds_the_allocation_limit() -> bool:
    """--use-quad-cross-attention, which is meant to save memory."""
    return _exceeds_the_limit(attention.attention_sub_quad, 1, 4096, 8 * 40, heads=8)


def split_attention_exceeds_the_allocation_limit() -> bool:
    """--use-split-cross-attention, with a number of tokens that its steps do not divide."""
    return _exceeds_the_limit(attention.attention_split, 1, 65 * 63, 8 * 40, heads=8)


def vae_slice_attention_exceeds_the_allocation_limit() -> bool:
    """What a VAE computes with either of these options: four pictures of 520x504."""
    return _exceeds_the_limit(vae_model.normal_attention, 4, 40, 65, 63)


class InjectedError(Exception):
    """What goes wrong in the middle of a node's work."""


def _fail(error: type[Exception], *_: Any) -> None:
    raise error


def upscaler_stays_on_the_card_after_an_error() -> bool:
    """An error or an interrupt amid an upscale: is the model still on the card after it?"""
    from spandrel import ModelLoader

    file = MODELS / "upscale_models" / "mini_esrgan_x2.safetensors"
    node = nodes.NODE_CLASS_MAPPINGS["ImageUpscaleWithModel"]()
    left = []
    for method in {"upscale", "execute"} & set(dir(node)):
        for error in (InjectedError, mm.InterruptProcessingException):
            model = ModelLoader().load_from_file(file).eval()
            model.patcher = comfy.model_patcher.ModelPatcher(model.model, XPU, torch.device("cpu"))
            model.model.register_forward_hook(functools.partial(_fail, error))
            with contextlib.suppress(error):
                getattr(node, method)(model, torch.rand(1, 64, 64, 3))
                raise AssertionError("the injected error was not reached")
            gc.collect()
            mm.unload_all_models()
            left.append(torch.xpu.memory_allocated(0) > 0)
            model.to("cpu")
    assert len(set(left)) == 1, left
    return left[0]


def integrated_bf16_is_not_seen() -> bool:
    """A card whose driver hides bf16 conversions computes bf16 natively all the same.

    ComfyUI's pull request 9322 met it on Lunar Lake, pytorch's issue 196074 on a B580.
    """
    hidden = dataclasses.replace(
        xpu_emulator.PROFILES["lunar_lake"], has_bfloat16_conversions=False
    )
    CARDS.configure([hidden])
    assert torch.xpu.is_bf16_supported()
    return not mm.should_use_bf16(XPU)


def integrated_copies_are_not_blocking() -> bool:
    """Non-blocking copies, which slow integrated GPUs down."""
    return bool(mm.device_supports_non_blocking(XPU))


def integrated_free_memory_exceeds_the_machines() -> bool:
    """Integrated GPUs share the machine's memory: is more of it called free than there is?"""
    return mm.get_free_memory(XPU) > psutil.virtual_memory().available


def rope_leaves_a_card_that_has_fp64() -> bool:
    """Flux's position encoding goes through the CPU although the card could do it."""
    assert torch.xpu.get_device_properties(0).has_fp64
    positions = torch.arange(16, dtype=torch.float32).reshape(1, 16).to(XPU)
    CARDS.reset_counters()
    flux_layers.rope(positions, 64, 10000)
    return bool(CARDS.devices[0].counters()["d2h"]["count"] > 0)


def observe(name: str) -> bool | str:
    """Run one check on cards in their first state; the traceback if it breaks."""
    specs = [device.spec for device in CARDS.devices]
    CARDS.configure(specs, xpu_emulator.Options())
    try:
        return bool(globals()[name]())
    except Exception:  # noqa: BLE001 (the caller reports it; the other checks go on)
        return traceback.format_exc()
    finally:
        CARDS.configure(specs, xpu_emulator.Options())


def load(path: str, parent: str) -> None:
    """Load the nodes at `path` as the host does."""
    loaded = nodes.load_custom_node(path, module_parent=parent)
    assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded


if __name__ == "__main__":
    load(str(Path("comfy_extras", "nodes_upscale_model.py").resolve()), "comfy_extras")
    if EXTENSION != "bare":
        load(EXTENSION, "custom_nodes")
    sys.stdout.write(json.dumps({name: observe(name) for name in WANTED}) + "\n")
