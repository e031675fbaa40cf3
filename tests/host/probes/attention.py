"""Runs inside a host's process on an emulated card: its own attention, bounded and unbounded.

usage: attention.py EXTENSION        (working directory: the host's tree)
Prints one line of JSON: for each case what the card counted, how far the result is from the
host's own on the CPU, and how far both are from the latter in fp64; then the modules that hold
our split attention and those that still hold the host's. The host runs with
--use-split-cross-attention, and the card grants 64 MiB at once.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
EXTENSION = sys.argv[1]
sys.argv = ["main.py", "--use-split-cross-attention"]
import comfy.options  # noqa: E402

# The host reads the command line when it is imported.
comfy.options.enable_args_parsing()

import torch  # noqa: E402
import xpu_emulator  # noqa: E402
from comfy.ldm.modules import attention  # noqa: E402
from comfy.ldm.modules.diffusionmodules import model as vae_model  # noqa: E402

import nodes  # noqa: E402

MIB = 1 << 20
CARDS = xpu_emulator.current()
XPU = torch.device("xpu:0")

Case = tuple[str, Callable[..., torch.Tensor], list[torch.Tensor], dict[str, Any]]


def randoms(*shapes: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def cases() -> Iterator[Case]:
    """(name, a function of the host, its tensors, its options).

    65 x 47 tokens divide by no number of steps that the host would try, and 24 has no root
    that floats hold exactly.
    """
    tokens = 65 * 47
    half = torch.bfloat16
    flat = randoms(*[(1, tokens, 4 * 24)] * 3, dtype=torch.float16)
    single = randoms(*[(2, tokens, 24)] * 3, dtype=torch.float32)
    batch = randoms(*[(4, tokens, 24)] * 3, dtype=half)
    plane, row = randoms((tokens, tokens), (4, 1, tokens), dtype=half)
    shaped = {"heads": 2, "skip_reshape": True, "skip_output_reshape": True}
    for name in ("attention_sub_quad", "attention_split"):
        function = getattr(attention, name)
        yield f"{name} float32", function, single, {"heads": 1}
        yield f"{name} float16", function, flat, {"heads": 4}
        yield f"{name} with a mask", function, [*batch, plane], {"heads": 1}
        yield f"{name} of heads", function, [t.view(2, 2, tokens, 24) for t in batch], shaped
    function = attention.attention_sub_quad
    upcast = {"heads": 1, "attn_precision": torch.float32}
    yield "attention_sub_quad upcast", function, [t[:2] for t in batch], upcast
    yield "attention_sub_quad with a mask of keys", function, [*batch, row], {"heads": 1}
    for dtype in (torch.float32, half):
        tensors = randoms(*[(4, 24, 65, 47)] * 3, dtype=dtype)
        yield f"normal_attention {dtype}", vae_model.normal_attention, tensors, {}


def run(
    function: Callable[..., torch.Tensor], tensors: list[torch.Tensor], options: dict[str, Any]
) -> torch.Tensor:
    """One call; a fourth tensor is the mask."""
    query, key, value, *mask = tensors
    return function(query, key, value, **options, **({"mask": mask[0]} if mask else {}))


def distance(result: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative, of the norms."""
    difference = result.double() - reference.double()
    return float(difference.norm() / reference.double().norm())


def measured(case: Case) -> dict[str, Any]:
    """What happened on the card, and the distances to the same function on the CPU."""
    _, function, tensors, options = case
    on_card = [tensor.to(XPU) for tensor in tensors]
    torch.xpu.empty_cache()
    CARDS.reset_counters()
    torch.xpu.reset_peak_memory_stats()
    held = torch.xpu.memory_allocated()
    result = run(function, on_card, options)
    counters = CARDS.devices[0].counters()
    peak = torch.xpu.max_memory_allocated() - held
    expected = run(function, tensors, options)
    truth = run(function, [tensor.double() for tensor in tensors], options)
    assert result.shape == expected.shape and result.dtype == expected.dtype
    return {
        "ooms": counters["ooms"],
        "copies": counters["h2d"]["count"] + counters["d2h"]["count"],
        "peak": peak,
        "difference": distance(result.cpu(), expected),
        "error": distance(result.cpu(), truth),
        "hosts_error": distance(expected, truth),
        "same_layout": result.stride() == expected.stride(),
    }


def holders(function: object) -> list[str]:
    """The loaded modules that took this as their attention."""
    return [
        f"{name}:{attribute}"
        for name, module in list(sys.modules.items())
        for attribute in ("optimized_attention", "optimized_attention_masked")
        if vars(module).get(attribute) is function
    ]


def split_attention_with_little_memory() -> str:
    """The error, if any, with so little free that the host would take more than 64 steps."""
    query = torch.randn(1, 4095, 2 * 40, dtype=torch.float16).to(XPU)
    torch.xpu.empty_cache()
    total = torch.xpu.get_device_properties(0).total_memory
    CARDS.devices[0].change(external_memory=total - torch.xpu.memory_reserved(0) - MIB // 4)
    try:
        attention.attention_split(query, query, query, heads=2)
    except RuntimeError as error:
        return type(error).__name__
    return ""


def load_extension() -> None:
    """Load the extension as the host does."""
    loaded = nodes.load_custom_node(EXTENSION)
    assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded


if __name__ == "__main__":
    load_extension()
    CARDS.set_options(attention="math")
    CARDS.devices[0].change(max_allocation=64 * MIB)
    answer = {
        "cases": {case[0]: measured(case) for case in cases()},
        "bounded": holders(attention.attention_split),
        "left_behind": holders(attention.attention_split.__wrapped__),
        "little_memory": split_attention_with_little_memory(),
    }
    sys.stdout.write(json.dumps(answer) + "\n")
