#!/usr/bin/env python3
"""What the bounded attention costs when nothing needs chunking: its time over the plain call's.

usage: .venv/bin/python benchmarks/attention_overhead.py [ROUNDS]

The plain and the wrapped call take turns in one process, so that whatever else the machine
does hits both. One line a device and size: the ratio of the best rounds, which no other load
has lengthened, and the median and range of all rounds' ratios. "call alone" wraps a function
that does nothing; "sub-quadratic" is ComfyUI's own attention instead of torch's. The emulated
XPU shows the wrapper's own share beside a kernel on the CPU, not beside a card's.
"""

import statistics
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(REPOSITORY / "tests"))
package = types.ModuleType("comfyui_ipex")
package.__path__ = [str(REPOSITORY)]
sys.modules["comfyui_ipex"] = package

import torch  # noqa: E402
import xpu_emulator  # noqa: E402
from comfyui_ipex.xpu_runtime.attention_plan import score_limit  # noqa: E402
from comfyui_ipex.xpu_runtime.decisions.attention import (  # noqa: E402
    Factory,
    efficient_dot_product_attention,
    scaled_dot_product_attention,
)
from torch.utils.benchmark import Timer  # noqa: E402

SHAPES = [(1, 8, 16, 40), (2, 8, 256, 40), (2, 8, 1024, 40), (1, 8, 2048, 40)]
"""[batch, heads, tokens, width]: nothing but the call, SD 1.5's smaller and middle
attention, and one whose scores (128 MiB) are above the floor: it asks for free memory."""

SECONDS = 0.2
"""Each side's time in a round, at least."""


def card_limit(device: torch.device) -> int:
    """An Arc card's limit of 4 GiB, and the free memory that the driver tells now."""
    return score_limit(4 << 30, torch.xpu.mem_get_info(device)[0])


def microseconds(function: Callable[..., torch.Tensor], tensors: list[torch.Tensor]) -> float:
    """Median time of one call."""
    timer = Timer("function(query, key, value)", globals=_names(function, tensors))
    return timer.blocked_autorange(min_run_time=SECONDS).median * 1e6


def _names(function: Callable[..., torch.Tensor], tensors: list[torch.Tensor]) -> dict[str, object]:
    return {"function": function, **dict(zip(("query", "key", "value"), tensors, strict=True))}


def main(rounds: int) -> None:
    """Measure and write one line a device and size."""
    torch.set_num_threads(1)
    xpu_emulator.install(["a770"])
    for device in ("cpu", "xpu"):
        bounded = scaled_dot_product_attention(card_limit)
        tensors = [torch.randn(SHAPES[0], device=device) for _ in range(3)]
        compare(f"{device:4} call alone", _nothing, bounded, tensors, rounds)
        for shape in SHAPES:
            tensors = [torch.randn(shape, device=device) for _ in range(3)]
            plain = torch.nn.functional.scaled_dot_product_attention
            compare(f"{device:4} {shape}", plain, bounded, tensors, rounds)
        bounded = efficient_dot_product_attention(card_limit)
        for label, plain in (("call alone", _nothing), ("small", _scores_in_memory)):
            flat = [torch.randn(8, *shape, device=device) for shape in ((16, 40), (40, 16))]
            tensors = [flat[0], flat[1], flat[0]]
            compare(f"{device:4} sub-quadratic, {label}", plain, bounded, tensors, rounds)


def _nothing(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
    return query


def _scores_in_memory(
    query: torch.Tensor, key_t: torch.Tensor, value: torch.Tensor, *_: Any
) -> torch.Tensor:
    """Attention as ComfyUI computes it in one slice."""
    return torch.bmm((torch.bmm(query, key_t) * query.shape[-1] ** -0.5).softmax(-1), value)


def compare(
    label: str,
    plain: Callable[..., torch.Tensor],
    factory: Factory,
    tensors: list[torch.Tensor],
    rounds: int,
) -> None:
    """Measure `plain` and its replacement in turns, and write one line."""
    wrapped = factory(plain)
    pairs = []
    for turn in range(rounds):
        # Whoever goes first has the colder caches.
        sides = (plain, wrapped) if turn % 2 else (wrapped, plain)
        times = {side: microseconds(side, tensors) for side in sides}
        pairs.append((times[plain], times[wrapped]))
    ratios = [after / before for before, after in pairs]
    before, after = (min(side) for side in zip(*pairs, strict=True))
    sys.stdout.write(
        f"{label:30} {before:10.2f} -> {after:10.2f} us  ratio {after / before:.3f}  "
        f"median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
