"""Runs inside a host's process on the CPU: what IPEX Optimize compiles of the host's own UNet.

usage: compiling.py EXTENSION MODELS --cpu --use-pytorch-cross-attention
(working directory: the host's tree; that attention is what the host takes on GPUs)
Prints one line of JSON: for each function below, what it saw, or the traceback of what broke.
Blocks are run as torch's compiler has traced them (its back end "eager"): what it compiles, and
when it does so anew, needs no code generator. Where one is to fail, it is a back end that does.
"""

import importlib
import logging
from typing import Any

from answering import print_answers

# First: it makes the host importable and parses the arguments.
from placing import CONDITIONING, close, sampled, with_lora

import torch  # isort: skip
import torch._dynamo
from torch._dynamo.utils import counters

import nodes

NODE = nodes.NODE_CLASS_MAPPINGS["IpexOptimize"]

PACKAGE = NODE.__module__.rpartition(".nodes.")[0]

MODELS, RUNNING, WISHES, REPORT = (
    importlib.import_module(f"{PACKAGE}.xpu_runtime.{name}")
    for name in ("optimizing.model", "optimizing.steps", "optimizing.settings", "report")
)

# As in a server: weights that are made outside are other tensors to torch's compiler.
with torch.inference_mode():
    MODEL = nodes.CheckpointLoaderSimple().load_checkpoint("mini_sd15.safetensors")[0]

SIZES = ((8, 8), (12, 12), (8, 16), (8, 8))

DEFAULTS = {"backend": "native", "dtype": "keep", "mode": "default", "fold": False}


def compiled(model: Any) -> Any:
    """A clone whose blocks are compiled, without measuring, so that they really are."""
    clone = model.clone()
    wishes = WISHES.OptimizeSettings(compile=WISHES.BLOCKS, verify=False)
    plan = WISHES.StepPlan((WISHES.Variant(True, WISHES.BLOCKS),), ())
    RUNNING.Optimizer(wishes, plan, "eager").attach(clone, "test")
    return clone


@torch._dynamo.register_backend
def broken(*_: Any) -> Any:
    """A code generator without a compiler."""
    raise RuntimeError("No working C++ compiler found")


class Broken(RUNNING.Optimizer):
    """The node's, with that code generator."""

    def __init__(self, wishes: Any, plan: Any) -> None:
        super().__init__(wishes, plan, "broken")


def graphs() -> int:
    """What torch has compiled so far."""
    return int(counters["stats"].get("unique_graphs", 0))


def blocks_are_compiled_once() -> dict[str, Any]:
    """Sizes of picture, then LoRAs after and before, then none again."""
    model = compiled(MODEL)
    same, counts = {}, []
    for number, size in enumerate(SIZES):
        same[f"{number}: {size}"] = close(sampled(model, size=size), sampled(MODEL, size=size))
        counts.append(graphs())
    patched, plain = sampled(with_lora(MODEL)), sampled(MODEL)
    same["lora after"] = close(sampled(with_lora(model)), patched)
    same["lora before"] = close(sampled(compiled(with_lora(MODEL))), patched)
    same["without lora"] = close(sampled(model), plain)
    lora = graphs()
    left = [one for one in MODEL.model.modules() if one._compiled_call_impl is not None]
    return {
        "same": same,
        "lora does something": not close(patched, plain),
        "sizes": counts,
        "lora": lora,
        "left": len(left),
    }


@torch.inference_mode()
def a_compiler_that_fails_is_a_reason() -> dict[str, Any]:
    """Measured, the report says it; unmeasured, the log does. Pictures are made as found."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("comfyui-ipex")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    MODELS.Optimizer = Broken
    plain = sampled(MODEL)
    found: dict[str, Any] = {}
    for verify in (True, False):
        model, text = NODE().optimize(
            MODEL,
            channels_last="off",
            compile="blocks",
            verify=verify,
            latent_image={"samples": torch.zeros(1, 4, 8, 8)},
            **DEFAULTS,
        )["result"]
        name = "measured" if verify else "unmeasured"
        found[name] = text
        found[f"{name}, same"] = torch.equal(sampled(model), plain)
    found["log"] = [text for text in said if "blocks is not used: " in text]
    found["XPU Report"] = list(REPORT._measured())
    return found


def memory_that_runs_out_is_short_for_one_sampling() -> dict[str, Any]:
    """In the second of three steps; the same sampling again finds memory."""
    kept = {"channels_last": "on", "compile": "off", "verify": False}
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    model = NODE().optimize(MODEL, latent_image=latent, **kept, **DEFAULTS)["result"][0]
    own, steps = RUNNING._Step._called, []

    def called(self: Any, variant: Any, inputs: Any) -> Any:
        steps.append(variant.name)
        if len(steps) == 2:
            raise torch.OutOfMemoryError("out of memory")
        return own(self, variant, inputs)

    def sampling(patcher: Any) -> torch.Tensor:
        given = nodes.common_ksampler(patcher, 7, 3, 1.0, "euler", "normal", *CONDITIONING, latent)
        return given[0]["samples"]

    plain = sampling(MODEL)
    RUNNING._Step._called = called
    try:
        same = [close(sampling(model), plain) for _ in range(2)]
    finally:
        RUNNING._Step._called = own
    return {"same": same, "steps": steps}


if __name__ == "__main__":
    print_answers(
        (
            blocks_are_compiled_once,
            memory_that_runs_out_is_short_for_one_sampling,
            a_compiler_that_fails_is_a_reason,
        )
    )
