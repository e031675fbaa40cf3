"""Runs inside a host's process on an emulated card: what do users meet when the card misbehaves?

usage: faults.py MODELS EXTENSION NAME ...        (working directory: the host's tree)
Prints one line of JSON: for each name what is wrong, "" if nothing is. The card has 3 GiB, and
its driver says from the start that nothing of it is free.
`a_lost_card` must be the last: the card does not come back.
"""

import copy
import functools
import itertools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import worker

MODELS, EXTENSION, WANTED = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
SERVED = worker.start(MODELS, EXTENSION)

import comfy.model_management as mm  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
import xpu_emulator  # noqa: E402

GIB = 1 << 30
MIB = 1 << 20

CARD = xpu_emulator.current().devices[0]
XPU = torch.device("xpu:0")

OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory")
LOST = ("DeviceLostError", "stopped responding")
REMEDY = "Restart ComfyUI"

Prompt = dict[str, Any]


class Layers(torch.nn.Module):
    """Linear layers of 32 MiB in fp16, together as large as SD1.5's weights.

    Weights are multiples of 1/256, so that a patch of such multiples is added without rounding,
    whether the weight was patched when it was loaded or is patched when it is used.
    """

    SIZE = 4096
    COUNT = 50

    def __init__(self) -> None:
        super().__init__()
        operations = comfy.ops.manual_cast
        self.layers = torch.nn.ModuleList(
            operations.Linear(self.SIZE, self.SIZE, bias=False, dtype=torch.float16)
            for _ in range(self.COUNT)
        )
        weight = multiples(seed=1)
        for index, layer in enumerate(self.layers):
            layer.weight.data.copy_(weight.roll(index))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All layers in turn."""
        for layer in self.layers:
            x = layer(x)
        return x


def multiples(seed: int) -> torch.Tensor:
    """A weight whose products neither vanish nor overflow after all layers."""
    generator = torch.Generator().manual_seed(seed)
    shape = (Layers.SIZE, Layers.SIZE)
    return torch.randint(-6, 7, shape, generator=generator, dtype=torch.int8).half() / 256


def computed(patcher: Any) -> tuple[torch.Tensor, int]:
    """What the layers make of one input on the card, and how many bytes of them were there."""
    mm.load_models_gpu([patcher])
    x = torch.randn(2, Layers.SIZE, generator=torch.Generator().manual_seed(2)).half().to(XPU)
    with torch.inference_mode():
        result = patcher.model(x).cpu()
    loaded = patcher.loaded_size()
    mm.unload_all_models()
    return result, loaded


def a_card_that_others_fill() -> str:
    """2.2 of 3 GiB in use elsewhere: weights that are streamed and patched compute the same."""
    patcher = comfy.model_patcher.ModelPatcher(Layers(), XPU, torch.device("cpu"))
    patched = (0, Layers.COUNT // 2, Layers.COUNT - 1)
    patch = ("diff", (multiples(seed=3),))
    patcher.add_patches({f"layers.{index}.weight": patch for index in patched})
    CARD.change(external_memory=int(2.2 * GIB), mem_get_info="true")
    streamed, part = computed(patcher)
    CARD.change(external_memory=0, mem_get_info=0)
    whole, everything = computed(patcher)
    if not part < patcher.model_size() <= everything:
        return f"{part} bytes were loaded beside others, {everything} on the empty card"
    if not torch.isfinite(whole).all() or whole.std() < 0.1:
        return f"the numbers say nothing: {whole}"
    return "" if torch.equal(streamed, whole) else f"{streamed} is not {whole}"


PLAIN = worker.workflow("txt2img")
NUMBERS = itertools.count(100)


@functools.cache
def expected() -> worker.Outcome:
    """What the workflow gives on a card without faults."""
    outcome = SERVED.run(PLAIN, unload=True)
    assert outcome.picture is not None, str(outcome)
    return outcome


def fresh(varied: str) -> Prompt:
    """The workflow with another "text" or "seed", of which the executor knows no results."""
    prompt = copy.deepcopy(PLAIN)
    if varied == "text":
        prompt["3"]["inputs"]["text"] = f"fox {next(NUMBERS)}"
    else:
        prompt["6"]["inputs"]["seed"] = next(NUMBERS)
    return prompt


def forgotten(varied: str) -> Prompt:
    """The workflow, after the executor has forgotten what it knew behind its text or its seed."""
    expected()
    SERVED.run(fresh(varied), unload=True)
    return PLAIN


def a_small_allocation_limit() -> str:
    """Each prompt works or says that memory ran out, and the next one works."""
    limits = {4 * MIB: False, 64 * MIB: False, 128 * MIB: True}  # the text encoder has 73 MiB
    for limit, suffices in limits.items():
        prompt = forgotten("text")
        CARD.change(max_allocation=limit)
        limited = SERVED.run(prompt, unload=True)
        CARD.change(max_allocation=0)
        good = limited.equals(expected()) if suffices else limited.is_clear(*OUT_OF_MEMORY)
        if not good:
            return f"at {limit >> 20} MiB: {limited}"
        following = SERVED.run(forgotten("text"), unload=True)
        if not following.equals(expected()):
            return f"after {limit >> 20} MiB: {following}"
    return ""


@contextmanager
def answering(answer: Callable[[], tuple[int, int]]) -> Iterator[list[int]]:
    """While it lasts, `torch.xpu.mem_get_info` gives `answer`; yields the calls' devices."""
    own, calls = torch.xpu.mem_get_info, list[int]()

    def replacement(device: Any = None) -> tuple[int, int]:
        calls.append(device)
        return answer()

    torch.xpu.mem_get_info = replacement
    try:
        yield calls
    finally:
        torch.xpu.mem_get_info = own


def a_driver_that_lies_about_free_memory() -> str:
    """0, negative, more than there is, and another lie at each call."""
    total = 3 * GIB
    lies: dict[str, list[int]] = {
        "nothing": [0],
        "less than nothing": [-1, -(1 << 62)],
        "more than there is": [total + 1, 1 << 62],
        "ever another": [0, total, -5, 1, 7 * total],
    }
    for name, values in lies.items():
        prompt = forgotten("seed")
        cycle = itertools.cycle(values)
        with answering(lambda cycle=cycle: (next(cycle), total)) as calls:
            outcome = SERVED.run(prompt, unload=True)
        if not outcome.equals(expected()) or not calls:
            return f"{name}, {len(calls)} times: {outcome}"
    return ""


def a_driver_that_stops_telling_free_memory() -> str:
    """It raises from the third call on, and is not asked again."""
    prompt = forgotten("seed")
    answers = iter([(2 * GIB, 3 * GIB)] * 2)

    def answer() -> tuple[int, int]:
        try:
            return next(answers)
        except StopIteration:
            raise RuntimeError("The device doesn't support querying free memory.") from None

    with answering(answer) as calls:
        outcome = SERVED.run(prompt, unload=True)
    if len(calls) != 3:
        return f"it was asked {len(calls)} times"
    return "" if outcome.equals(expected()) else str(outcome)


def is_lost(outcome: worker.Outcome) -> bool:
    """Whether this is the one error that says what to do."""
    return outcome.is_clear(*LOST) and REMEDY in outcome.message


def a_card_lost_at_any_kernel() -> str:
    """Wherever it happens: one clear error, and nobody tries again."""
    expected()
    before = CARD.counters()["kernels"]
    SERVED.run(fresh("text"), unload=True)
    kernels = CARD.counters()["kernels"] - before
    for nth in range(1, kernels, kernels // 5):
        CARD.fail_kernel(nth, "device_lost")
        outcome = SERVED.run(fresh("text"), unload=True)
        CARD.fail_kernel(0)
        if not is_lost(outcome):
            return f"at kernel {nth} of {kernels}: {outcome}"
    return ""


def a_lost_card() -> str:
    """Lost in the middle of sampling: a clear error then and from each later prompt."""
    prompt = forgotten("seed")

    def lose(value: int, *_: Any, **__: Any) -> None:
        if value == 1:
            CARD.lose()

    comfy.utils.set_progress_bar_global_hook(lose)
    outcomes = {
        "the prompt that meets it": SERVED.run(prompt),
        "the same again, then unloading": SERVED.run(prompt, unload=True),
        "another": SERVED.run(fresh("text")),
    }
    return "; ".join(f"{when}: {o}" for when, o in outcomes.items() if not is_lost(o))


def observe(name: str) -> str:
    """Run one check; its traceback if it breaks."""
    try:
        return str(globals()[name]())
    except Exception:  # noqa: BLE001 (the caller reports it; the other checks go on)
        return traceback.format_exc()


if __name__ == "__main__":
    answers = {name: observe(name) for name in WANTED}
    sys.stdout.write(json.dumps(answers) + "\n")
