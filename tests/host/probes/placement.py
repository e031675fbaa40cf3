"""Runs inside a host's process on two emulated cards: what placing does to a component and not.

usage: placement.py EXTENSION MODELS        (working directory: the host's tree)
Prints one line of JSON: for each function below, what it saw, or the traceback of what broke.
"""

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from answering import print_answers

# First: it makes the host importable and parses the arguments.
from placing import (
    CLIP,
    CONDITIONING,
    CONTROL,
    LORA,
    MODEL,
    MODELS,
    VAE,
    close,
    encoded,
    sampled,
    select,
    where,
    with_lora,
)

import comfy.cli_args  # isort: skip
import comfy.controlnet
import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch
from comfy_extras import nodes_hooks, nodes_model_merging, nodes_upscale_model
from safetensors.torch import load_file, save_file

import nodes


def two_cards_take_turns_with_one_checkpoint() -> dict[str, Any]:
    """Clones on both cards and the CPU, patched and not; each result against the first card's."""
    plain, patched = sampled(MODEL), sampled(with_lora(MODEL))
    first, second = select(MODEL, "xpu:0"), select(MODEL, "xpu:1")
    same = {}
    for number in range(2):
        same[f"first {number}"] = torch.equal(sampled(first), plain)
        same[f"second {number}"] = torch.equal(sampled(second), plain)
        same[f"lora after {number}"] = torch.equal(sampled(with_lora(second)), patched)
        same[f"lora before {number}"] = torch.equal(
            sampled(select(with_lora(MODEL), "xpu:1")), patched
        )
        same[f"original {number}"] = torch.equal(sampled(MODEL), plain)
    same["cpu"] = close(sampled(select(MODEL, "cpu")), plain)
    entries = len(mm.current_loaded_models)
    mm.unload_all_models()
    return {"same": same, "entries": entries}


def merging_and_hooks_keep_the_device() -> dict[str, Any]:
    """A merge of placed models and weights by hooks, against the same on the first card."""
    merge = nodes_model_merging.ModelMergeSimple().merge
    merged = sampled(merge(MODEL, with_lora(MODEL), 0.5)[0])
    second = select(MODEL, "xpu:1")
    placed = merge(second, with_lora(MODEL), 0.5)[0]
    found = {
        "merge": torch.equal(sampled(placed), merged),
        "merge is on": str(placed.load_device),
    }
    hooks = nodes_hooks.CreateHookLora().create_hook(LORA, 0.8, 0.0)[0]
    setter = nodes_hooks.SetClipHooks()
    apply = getattr(setter, "apply_hooks", None) or setter.execute
    hooked = encoded(apply(clip=CLIP, schedule_clip=False, apply_to_conds=True, hooks=hooks)[0])
    reference = sampled(MODEL, hooked)
    found["hooks"] = torch.equal(sampled(second, hooked), reference)
    found["hooks do something"] = not torch.equal(reference, sampled(MODEL))
    mm.unload_all_models()
    return found


def a_clone_that_is_dropped_leaves_the_original_alone() -> dict[str, Any]:
    """The host keeps a dropped clone's weights loaded, and goes on with its parent."""
    plain = sampled(MODEL)
    found: dict[str, Any] = {}
    for name, prepare in {"plain": lambda m: m, "lora": with_lora}.items():
        placed = select(prepare(MODEL), "xpu:1")
        sampled(placed)
        del placed
        gc.collect()
        entry = mm.current_loaded_models[0]
        agrees = entry.model is not None and entry.device == entry.model.load_device
        found[name] = {
            "entry agrees with its model": agrees,
            "same": torch.equal(sampled(MODEL), plain),
            "where": where(MODEL),
            "entries": len(mm.current_loaded_models),
        }
    latent = torch.zeros(1, 4, 8, 8)
    with torch.inference_mode():
        select(VAE, "cpu", "VAE").decode(latent)  # a copy, in another dtype
        gc.collect()
        select(VAE, "cpu", "VAE").decode(latent)
    found["dead"] = sum(entry.model is None for entry in mm.current_loaded_models)
    mm.unload_all_models()
    return found


def a_text_encoder_is_used_where_unload_models_has_left_it() -> dict[str, Any]:
    """On the CPU after a card, with weights that were loaded within a prompt and left after it."""
    with torch.inference_mode():
        _, clip, _ = nodes.CheckpointLoaderSimple().load_checkpoint("mini_sd15.safetensors")
    expected = encoded(select(clip, "xpu:0", "CLIP"))[0][0]
    found = {}
    placed = select(clip, "xpu:0", "CLIP")
    for name, before in {"a placed one left": placed, "it left": clip}.items():
        encoded(before)
        mm.unload_all_models()
        result = encoded(select(clip, "cpu", "CLIP"))[0][0]
        found[name] = close(result.float().cpu(), expected.float().cpu())
        mm.unload_all_models()
    return found


def noted() -> dict[str, Any]:
    """What may not change on the components that are given."""
    return {
        "model": [str(MODEL.load_device), str(MODEL.offload_device), str(MODEL.patches_uuid)],
        "cast": str(MODEL.get_model_object("manual_cast_dtype")),
        "clip": [str(CLIP.patcher.load_device), str(CLIP.patcher.patches_uuid)],
        "vae": [str(VAE.device), str(VAE.vae_dtype), str(VAE.patcher.load_device)],
        "vae weights": str(next(VAE.first_stage_model.parameters()).dtype),
        "vae network": id(VAE.first_stage_model),
        "control": [str(CONTROL.load_device), str(CONTROL.control_model_wrapped.load_device)],
        "control network": id(CONTROL.control_model),
    }


def what_is_given_is_not_changed() -> list[str]:
    """The names of what every node, on every device, has changed."""
    before = noted()
    for device in ("xpu:1", "cpu", "auto"):
        select(MODEL, device, offload_device="xpu:1")
        select(CLIP, device, "CLIP", offload_device="xpu:1")
        select(VAE, device, "VAE", offload_device="xpu:1")
        select(CONTROL, device, "ControlNet", offload_device="xpu:1")
    after = noted()
    return [name for name in before if after[name] != before[name]]


@torch.inference_mode()
def a_vae_computes_in_what_its_device_can() -> dict[str, Any]:
    """bf16 on the card is fp32 on the CPU; the copy is made once."""
    on_cpu, again = select(VAE, "cpu", "VAE"), select(VAE, "cpu", "VAE")
    on_second, back = select(VAE, "xpu:1", "VAE"), select(on_cpu, "xpu:0", "VAE")
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    reference = VAE.decode(latent)
    decoded = on_cpu.decode(latent)
    found = {
        "here": str(VAE.vae_dtype),
        "cpu": [str(on_cpu.vae_dtype), str(next(on_cpu.first_stage_model.parameters()).dtype)],
        "back": [str(back.vae_dtype), str(next(back.first_stage_model.parameters()).dtype)],
        "copied once": on_cpu.first_stage_model is again.first_stage_model,
        "shared": on_second.first_stage_model is VAE.first_stage_model,
        "close": close(decoded, reference),
        "second": torch.equal(on_second.decode(latent), reference),
        "back again": torch.equal(back.decode(latent), reference),
        "encoded": torch.equal(on_second.encode(decoded), VAE.encode(decoded)),
        "where": where(on_cpu.patcher),
    }
    mm.unload_all_models()
    return found


def weights_wait_on_the_offload_device() -> dict[str, Any]:
    """A model that is not needed goes to the card that was named, and comes back."""
    plain = sampled(MODEL)
    placed = select(MODEL, "xpu:0", offload_device="xpu:1")
    same = torch.equal(sampled(placed), plain)
    mm.unload_all_models()
    waits = where(placed)
    same_again = torch.equal(sampled(MODEL), plain)
    mm.unload_all_models()
    return {"same": same and same_again, "waits": waits, "then": where(MODEL)}


def an_absent_device_is_said_and_means_auto() -> dict[str, Any]:
    """On the node; the log is the tests' own matter."""
    shown = {}
    for name, component in {"": MODEL, "CLIP": CLIP, "VAE": VAE, "ControlNet": CONTROL}.items():
        cls = nodes.NODE_CLASS_MAPPINGS[f"IpexSelectDevice{name}"]
        shown[name] = cls().select(component, "cuda:3")["ui"]["text"][0]
    return shown


@torch.inference_mode()
def control_nets_run_with_their_model_or_on_their_own() -> dict[str, Any]:
    """Every pair of devices gives the first card's latent."""
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))

    def steered(control: Any, model: Any) -> torch.Tensor:
        apply = nodes.ControlNetApplyAdvanced().apply_controlnet
        return sampled(model, *apply(*CONDITIONING, control, image, 1.0, 0.0, 1.0))

    reference = steered(CONTROL, MODEL)
    second = select(MODEL, "xpu:1")
    found: dict[str, Any] = {"does something": not torch.equal(reference, sampled(MODEL))}
    pairs = {
        "with model": (select(CONTROL, "with model", "ControlNet", model=second), second),
        "own, second": (select(CONTROL, "xpu:1", "ControlNet"), MODEL),
        "own, first": (select(CONTROL, "xpu:0", "ControlNet"), second),
    }
    for name, (control, model) in pairs.items():
        found[name] = torch.equal(steered(control, model), reference)
    own = steered(select(CONTROL, "cpu", "ControlNet"), MODEL)
    found["own, cpu is close"] = close(own, reference)
    adapter = comfy.controlnet.ControlLora({})
    for name, attempt in {
        "no model": lambda: select(CONTROL, "with model", "ControlNet"),
        "adapter": lambda: select(adapter, "xpu:1", "ControlNet"),
    }.items():
        try:
            attempt()
        except (TypeError, ValueError) as error:
            found[name] = str(error)
    mm.unload_all_models()
    return found


def previews_follow_the_model() -> dict[str, Any]:
    """A preview of every step from TAESD, which the host puts on the model's device."""
    weights = load_file(MODELS / "vae" / "mini_taesd.safetensors")
    prefix = "taesd_decoder."
    decoder = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    seen: list[Any] = []
    args = comfy.cli_args.args
    before = args.preview_method
    with tempfile.TemporaryDirectory() as folder:
        save_file(decoder, Path(folder, "taesd_decoder.safetensors"))
        folder_paths.add_model_folder_path("vae_approx", folder, is_default=True)
        args.preview_method = comfy.cli_args.LatentPreviewMethod.TAESD
        comfy.utils.set_progress_bar_global_hook(
            lambda value, total, preview, **_: seen.append(preview)
        )
        try:
            sampled(select(MODEL, "xpu:1"))
        finally:
            comfy.utils.set_progress_bar_global_hook(None)
            args.preview_method = before
    mm.unload_all_models()
    return {"previews": sum(preview is not None for preview in seen)}


def upscalers_have_weights_of_their_own() -> dict[str, Any]:
    """Our loader's model and the host's, used in half precision before they are placed."""
    image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(1))

    @torch.inference_mode()
    def upscaled(model: Any) -> torch.Tensor:
        return nodes.NODE_CLASS_MAPPINGS["IpexUpscaleImage"]().upscale(model, image)[0]

    loader = nodes.NODE_CLASS_MAPPINGS["IpexUpscaleModelLoader"]()
    ours = loader.load("mini_esrgan_x2.safetensors", "auto", "auto")[0]
    loader = nodes_upscale_model.UpscaleModelLoader()
    theirs = getattr(loader, "load_model", None) or loader.execute
    found: dict[str, Any] = {}
    for name, model in {"ours": ours, "theirs": theirs("mini_esrgan_x2.safetensors")[0]}.items():
        placed = select(model, "xpu:1", "Upscaler")
        reference = upscaled(model)
        late, on_cpu = select(model, "xpu:1", "Upscaler"), select(model, "cpu", "Upscaler")
        found[name] = {
            "early": torch.equal(upscaled(placed), reference),
            "late": torch.equal(upscaled(late), reference),
            "cpu": float((upscaled(on_cpu) - reference).abs().max()) < 2 / 255,
            "dtypes": [str(next(m.model.parameters()).dtype) for m in (model, placed, on_cpu)],
            "where": [where(one.patcher) for one in (placed, on_cpu)],
            "apart": placed.model is not model.model,
        }
    mm.unload_all_models()
    return found


CHECKS: tuple[Callable[[], Any], ...] = (
    two_cards_take_turns_with_one_checkpoint,
    merging_and_hooks_keep_the_device,
    a_clone_that_is_dropped_leaves_the_original_alone,
    a_text_encoder_is_used_where_unload_models_has_left_it,
    what_is_given_is_not_changed,
    a_vae_computes_in_what_its_device_can,
    weights_wait_on_the_offload_device,
    an_absent_device_is_said_and_means_auto,
    control_nets_run_with_their_model_or_on_their_own,
    previews_follow_the_model,
    upscalers_have_weights_of_their_own,
)

if __name__ == "__main__":
    print_answers(CHECKS)
