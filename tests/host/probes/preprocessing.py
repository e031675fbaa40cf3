"""Runs inside a host's process on an emulated card: preprocessors under its management.

usage: preprocessing.py EXTENSION        (working directory: the host's tree)
Prints one line of JSON: for each function below, what it saw, or the traceback of what broke.
"""

import asyncio
import contextlib
import dataclasses
import gc
import importlib
import inspect
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from answering import print_answers

sys.path.insert(0, str(Path.cwd()))
EXTENSION = sys.argv[1]
sys.argv = ["main.py"]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management as mm  # noqa: E402
import torch  # noqa: E402
import toy_preprocessors as toys  # noqa: E402
import xpu_emulator  # noqa: E402
from toy_preprocessors import MIB, InjectedError, loads  # noqa: E402

import nodes  # noqa: E402

found_pack = nodes.load_custom_node(EXTENSION)
assert asyncio.run(found_pack) if inspect.isawaitable(found_pack) else found_pack
PACK = nodes.NODE_CLASS_MAPPINGS["IpexLoadPreprocessor"].__module__.rpartition(".nodes.")[0]


def part(name: str) -> Any:
    """A module of the extension, under the name that the host gave it."""
    return importlib.import_module(f"{PACK}.{name}")


classes = part("nodes.preprocess.classes")
loaded = part("nodes.preprocess.loaded")
method = part("nodes.preprocess.method")
preprocessor = part("nodes.preprocess.preprocessor")

XPU = torch.device("xpu:0")
FOLDER = Path(tempfile.mkdtemp())


def toy(name: str, gain: float = 1.0, looks: bool = False) -> Any:
    """A method with a small network, and its file."""
    return toys.made(method, FOLDER, name, gain, looks)


def find(file: Any) -> Path:
    """Where the toys' files lie."""
    return FOLDER / file.name


def ready(what: Any, device: str = "xpu:0", precision: str = "fp32") -> Any:
    """A PREPROCESSOR with its network."""
    return preprocessor.holding(
        preprocessor.Preprocessor(what, torch.device(device), precision, find)
    )


def pictures(count: int = 3, side: int = 60) -> torch.Tensor:
    """Always the same."""
    return torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(3))


def apply(what: Any, images: torch.Tensor, resolution: int = 0, **more: Any) -> torch.Tensor:
    """What our node makes of `images`."""
    with torch.inference_mode():
        node = nodes.NODE_CLASS_MAPPINGS["IpexApplyPreprocessor"]()
        return node.apply(what, images, resolution, **more)[0]


def on_card() -> int:
    """Bytes of tensors on the card."""
    return torch.xpu.memory_allocated(0)


def weights_are_read_once() -> dict[str, Any]:
    """By several objects and runs, while a workflow holds nothing, and anew for a changed file."""
    loads.clear()
    what = toy("Once")
    first = apply(ready(what), pictures())
    after_one = on_card()
    second = apply(ready(what), pictures())
    read = len(loads)
    entries = len(mm.current_loaded_models)
    toy("Once", 2.0)
    other = apply(ready(what), pictures())
    mm.unload_all_models()
    left = on_card()
    again = apply(ready(what), pictures())
    mm.unload_all_models()
    return {
        "loaded": after_one >= 4 * MIB,
        "read": read,
        "entries": entries,
        "same": torch.equal(first, second),
        "read after the file changed": len(loads),
        "left": left,
        "after unloading": torch.equal(other, again),
        "std": float(first.std()) > 0.01,
    }


def old_networks_are_let_go() -> dict[str, Any]:
    """Networks that nobody holds, beyond what is kept."""
    loaded.KEPT_BYTES, before = 10 * MIB, loaded.KEPT_BYTES
    on_cards = 0
    try:
        for index in range(4):
            apply(ready(toy(f"Kept{index}")), pictures(1))
            on_cards = max(on_cards, on_card())
    finally:
        loaded.KEPT_BYTES = before
    gc.collect()
    names = len(loaded._LOADED)
    mm.unload_all_models()
    return {"kept": names, "left": on_card(), "on the card": on_cards < 12 * MIB}


def an_error_or_an_interrupt_leaves_nothing_on_the_card() -> dict[str, Any]:
    """In the middle of a run."""

    def fail(*_: Any) -> None:
        raise InjectedError

    what = ready(toy("Error"))
    wanted = apply(what, pictures())
    hook = what.network.module.register_forward_hook(fail)
    left: dict[str, Any] = {}
    with contextlib.suppress(InjectedError):
        apply(what, pictures())
    left["error"] = on_card()
    hook.remove()
    mm.interrupt_current_processing()
    with contextlib.suppress(mm.InterruptProcessingException):
        apply(what, pictures())
        raise AssertionError("the interrupt was not seen")
    left["interrupt"] = on_card()
    left["entries"] = len(mm.current_loaded_models)
    left["works again"] = torch.equal(apply(what, pictures()), wanted)
    mm.unload_all_models()
    return left


def pressure_evicts_the_network() -> dict[str, Any]:
    """The host wants the memory: the weights leave, and the next run takes them back unread."""
    what = ready(toy("Pressure"))
    wanted = apply(what, pictures())
    loads.clear()
    mm.free_memory(1e30, XPU)
    left = on_card()
    again = apply(what, pictures())
    mm.unload_all_models()
    return {"left": left, "same": torch.equal(wanted, again), "read": len(loads)}


def a_card_with_little_memory_gives_the_same_pictures() -> dict[str, Any]:
    """2 GiB, no fp64; then so little that chunks are small; then memory that runs out."""
    emulated = xpu_emulator.current()
    images = pictures(12, 120)
    what = toy("Small")
    wanted = apply(ready(what, "cpu"), images)
    card = emulated.devices[0]
    total = torch.xpu.get_device_properties(0).total_memory
    differences = {}
    for name, free in (("2 GiB", 2048 * MIB), ("little", 40 * MIB)):
        card.change(external_memory=total - free)
        card.reset_counters()
        found = apply(ready(what), images)
        differences[name] = float((found - wanted).abs().max())
        differences[f"ooms with {name}"] = card.counters()["ooms"]
        mm.unload_all_models()
    card.change(external_memory=0)
    ready_one = ready(what)
    apply(ready_one, images)
    card.fail_allocation(4)
    differences["ran out"] = float((apply(ready_one, images) - wanted).abs().max())
    mm.unload_all_models()
    return differences


def half_precision_is_checked_once() -> dict[str, Any]:
    """By precision auto, for the same file and card; a network that it breaks keeps fp32."""
    precision = part("inference.precision")
    precision._CHECKS.clear()
    good, bad = ready(toy("Half"), precision="auto"), ready(toy("Loud", 1e6), precision="auto")
    wanted = apply(ready(good.method), pictures())
    found = apply(good, pictures())
    checks = len(precision._CHECKS)
    apply(ready(good.method, precision="auto"), pictures())
    apply(bad, pictures())
    asked = apply(ready(good.method, precision="bf16"), pictures())
    mm.unload_all_models()
    return {
        "left": on_card(),
        "dtype": str(good.network.dtype),
        "close": float((found - wanted).abs().max()) <= 2 / 255,
        "differs": not torch.equal(found, wanted),
        "checks": [checks, len(precision._CHECKS)],
        "broken": str(bad.network.dtype),
        "bf16": float((asked - wanted).abs().max()) <= 8 / 255,
    }


def what_finds_nothing_is_compared_by_what_its_network_says() -> dict[str, Any]:
    """Hints that are flat in any dtype tell nothing about half precision."""

    def blind(what: Any) -> Any:
        def make_hint(network: Any, batch: Any, options: Mapping[str, Any]) -> Any:
            network(batch.images)
            return method.Hint(torch.zeros_like(batch.images[:, :1]))

        return dataclasses.replace(what, make_hint=make_hint)

    def hesitant(what: Any) -> Any:
        def make_hint(network: Any, batch: Any, options: Mapping[str, Any]) -> Any:
            for _ in range(2 if network.last.weight.dtype == torch.float32 else 1):
                said = network(batch.images)
            return method.Hint(torch.sigmoid(said))

        return dataclasses.replace(what, make_hint=make_hint)

    good = ready(blind(toy("Blind")), precision="auto")
    other = ready(hesitant(toy("Hesitant")), precision="auto")
    bad = ready(blind(toy("BlindAndLoud", 1e6)), precision="auto")
    for one in (good, bad, other):
        apply(one, pictures(1))
    mm.unload_all_models()
    called = {"good": good, "bad": bad, "called otherwise": other}
    return {name: str(one.network.dtype) for name, one in called.items()}


def a_network_that_cannot_run_dry_is_measured() -> dict[str, Any]:
    """It looks at its pictures before its weights are used."""
    what = ready(toy("Looks", looks=True))
    seen: list[int] = []
    what.network.module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    found = apply(what, pictures(9))
    wanted = apply(ready(what.method, "cpu"), pictures(9))
    mm.unload_all_models()
    return {"chunks": seen[:2], "differs by": float((found - wanted).abs().max())}


def sizes_are_as_asked() -> dict[str, Any]:
    """Shapes by resolution, and gray and alpha."""
    what = ready(toy("Sizes"))
    images = torch.rand(2, 50, 70, 4)
    shapes = {
        "own": apply(what, images, 0),
        "resolution": apply(what, images, 100),
        "matched": apply(what, images, 100, match_input_size=True),
        "gray": apply(what, images[..., :1], 0),
    }
    mm.unload_all_models()
    return {name: list(value.shape) for name, value in shapes.items()}


CHECKS: tuple[Callable[[], Any], ...] = (
    weights_are_read_once,
    old_networks_are_let_go,
    an_error_or_an_interrupt_leaves_nothing_on_the_card,
    pressure_evicts_the_network,
    a_card_with_little_memory_gives_the_same_pictures,
    half_precision_is_checked_once,
    what_finds_nothing_is_compared_by_what_its_network_says,
    a_network_that_cannot_run_dry_is_measured,
    sizes_are_as_asked,
)

if __name__ == "__main__":
    print_answers(CHECKS)
