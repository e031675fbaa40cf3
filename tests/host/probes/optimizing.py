"""Runs inside a host's process on an emulated card: what IPEX Optimize does to a model and not.

usage: optimizing.py EXTENSION MODELS        (working directory: the host's tree)
Prints one line of JSON: for each function below, what it saw, or the traceback of what broke.
"""

import gc
import importlib
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

# First: it makes the host importable and parses the arguments.
from placing import CLIP, CONDITIONING, MODEL, close, encoded, sampled, with_lora

import comfy.model_management as mm  # isort: skip
import torch

import nodes

NODE = nodes.NODE_CLASS_MAPPINGS["IpexOptimize"]

PACKAGE = NODE.__module__.rpartition(".nodes.")[0]

LAYOUT, RUNNING, STATE = (
    importlib.import_module(f"{PACKAGE}.xpu_runtime.optimizing.{name}")
    for name in ("layout", "steps", "state")
)

DEFAULTS = {
    "backend": "auto",
    "dtype": "auto",
    "channels_last": "auto",
    "compile": "auto",
    "mode": "auto",
    "fold": True,
    "verify": True,
}

# Applied without measuring, so that what is compared was really applied.
ALWAYS = {"channels_last": "on", "verify": False}


@torch.inference_mode()
def optimised(model: Any, **wishes: Any) -> tuple[Any, str]:
    """What the node makes of a model, and its report."""
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    made = NODE().optimize(model, latent_image=latent, **{**DEFAULTS, **wishes})
    return made["result"]


def is_last() -> bool:
    """Whether the checkpoint's network has its channels last now."""
    return bool(LAYOUT.is_channels_last(MODEL.model))


def pictures_are_the_same_with_lora_before_and_after() -> dict[str, Any]:
    """Each against the same without the node, by turns with the input itself."""
    plain, patched = sampled(MODEL), sampled(with_lora(MODEL))
    found: dict[str, Any] = {"lora does something": not close(patched, plain)}
    model, _ = optimised(MODEL, **ALWAYS)
    found["same"] = close(sampled(model), plain)
    found["applied"] = is_last()
    found["lora after"] = close(sampled(with_lora(model)), patched)
    before = optimised(with_lora(MODEL), **ALWAYS)[0]
    found["lora before"] = close(sampled(before), patched)
    found["applied with lora"] = is_last()
    found["without lora again"] = close(sampled(model), plain)
    found["input"] = torch.equal(sampled(MODEL), plain)
    found["input is as found"] = not is_last()
    found["hooked"] = _hooked(model)
    mm.unload_all_models()
    return found


def _hooked(model: Any) -> bool:
    """Weights that change while sampling, by a hook."""
    from comfy_extras import nodes_hooks

    hooks = nodes_hooks.CreateHookLora().create_hook("mini_sd15_lora.safetensors", 0.8, 0.0)[0]
    setter = nodes_hooks.SetClipHooks()
    apply = getattr(setter, "apply_hooks", None) or setter.execute
    hooked = encoded(apply(clip=CLIP, schedule_clip=False, apply_to_conds=True, hooks=hooks)[0])
    return close(sampled(model, hooked), sampled(MODEL, hooked))


def it_undoes_itself() -> dict[str, Any]:
    """When the model is offloaded, when the clone is dropped, and when another is loaded."""
    found = {}
    model, _ = optimised(MODEL, **ALWAYS)
    sampled(model)
    found["applied"] = is_last()
    mm.unload_all_models()
    found["offloaded"] = is_last()
    sampled(model)
    found["applied again"] = is_last()
    del model
    gc.collect()
    found["dropped"] = is_last()
    model, _ = optimised(MODEL, **ALWAYS)
    sampled(model)
    sampled(MODEL)
    found["another is loaded"] = is_last()
    impl = [one for one in MODEL.model.modules() if one._compiled_call_impl is not None]
    found["compiled calls"] = len(impl)
    mm.unload_all_models()
    return found


def an_interrupt_leaves_nothing_behind() -> dict[str, Any]:
    """While the ways are measured, and in a step."""
    plain = sampled(MODEL)
    model, _ = optimised(MODEL, compile="off", verify=True)
    STATE.state_of(MODEL.model).outcomes.clear()
    found: dict[str, Any] = {}
    mm.interrupt_current_processing(True)
    given, RUNNING.trial.fastest = RUNNING.trial.fastest, interrupted
    try:
        sampled(model)
    except mm.InterruptProcessingException:
        found["interrupted"] = True
    finally:
        RUNNING.trial.fastest = given
        mm.interrupt_current_processing(False)
    found["as found"] = not is_last()
    found["nothing was concluded"] = not STATE.state_of(MODEL.model).outcomes
    found["same"] = torch.equal(sampled(MODEL), plain)
    found["works after"] = close(sampled(model), plain)
    mm.unload_all_models()
    return found


def interrupted(*_: Any) -> float:
    """What a user's interrupt does."""
    raise mm.InterruptProcessingException


def a_partially_loaded_model_is_left_alone() -> dict[str, Any]:
    """As with --novram: the host keeps weights in memory and copies them in each step."""
    plain = sampled(MODEL)
    state, mm.vram_state = mm.vram_state, mm.VRAMState.NO_VRAM
    mm.unload_all_models()
    model, text = optimised(MODEL, **ALWAYS)
    measured = optimised(MODEL)[1]
    try:
        found = {"same": close(sampled(model), plain), "applied": is_last()}
        found["partial"] = bool(MODEL.model.model_lowvram)
    finally:
        mm.vram_state = state
    mm.unload_all_models()
    found["reason"] = "partially" in measured
    found["applied when whole"] = close(sampled(model), plain) and is_last()
    mm.unload_all_models()
    return {**found, "text": text}


def the_report_tells_what_was_measured() -> dict[str, Any]:
    """On an emulated card nothing is compiled, and that is said."""
    model, text = optimised(MODEL)
    same = close(sampled(model), sampled(MODEL))
    outcomes = len(STATE.state_of(MODEL.model).outcomes)
    again = optimised(MODEL)[1]
    asked = optimised(MODEL, compile="blocks", mode="reduce-overhead", backend="ipex")[1]
    computed = optimised(MODEL, dtype="bf16")
    mm.unload_all_models()
    return {
        "text": text,
        "same": same,
        "outcomes": outcomes,
        "measured once": text.splitlines()[1] == again.splitlines()[1],
        "asked": asked,
        "bf16": [computed[1], str(computed[0].get_model_object("manual_cast_dtype"))],
        "bf16 is close": close(sampled(computed[0]), sampled(MODEL)),
    }


def code_of_other_nodes_is_run_in_each_step() -> dict[str, Any]:
    """A patch of another node, which counts its calls; conditioning as given."""
    calls: list[int] = []

    def patch(q: Any, k: Any, v: Any, options: Any) -> Any:
        calls.append(1)
        return q, k, v

    model, _ = optimised(MODEL, **ALWAYS)
    patched = model.clone()
    patched.set_model_attn1_patch(patch)
    sampled(patched)
    first = len(calls)
    sampled(patched, *CONDITIONING)
    return {"each": first, "twice": len(calls) == 2 * first}


def attempted(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception:  # noqa: BLE001 (the test shows it)
        return traceback.format_exc()


FUNCTIONS = (
    pictures_are_the_same_with_lora_before_and_after,
    it_undoes_itself,
    an_interrupt_leaves_nothing_behind,
    a_partially_loaded_model_is_left_alone,
    the_report_tells_what_was_measured,
    code_of_other_nodes_is_run_in_each_step,
)

sys.stdout.write(json.dumps({one.__name__: attempted(one) for one in FUNCTIONS}) + "\n")
