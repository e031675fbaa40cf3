"""Whatever happens in a run, each pixel of its result is written once, and nothing is left behind.

For every task of the nodes, on the CPU and on an emulated card, here and through a worker's way of
calling: memory that runs out at every allocation, errors and interrupts at every call.
"""

import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from comfyui_ipex.inference import stream
from comfyui_ipex.inference.dry_run import Cost
from comfyui_ipex.inference.facts import Memo
from comfyui_ipex.inference.stream import Region, Task, TensorSink, Ui
from comfyui_ipex.nodes.inpaint import MaskedSink, WholeTask
from comfyui_ipex.nodes.preprocess.picture_task import PictureTask
from comfyui_ipex.nodes.upscale.halo import Halo
from comfyui_ipex.nodes.upscale.plan import TilePlan
from comfyui_ipex.nodes.upscale.tile_task import ResizingSink, TileNetwork, TileTask, resized
from comfyui_ipex.nodes.upscale.tiles import Canvas, ResultSize
from streams import CountingBudget
from torch import Tensor, nn
from toy_preprocessor import CPU, Edges, call_of, pictures
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

XPU = torch.device("xpu:0")
SIDE = 40
FRAMES = 5


class InjectedError(Exception):
    """Breaks a run on purpose."""


class Doubled(nn.Module):
    """Looks two pixels far, and doubles the size."""

    def forward(self, image: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)
        return nn.functional.interpolate(blurred, scale_factor=2, mode="nearest")


class Filler(nn.Module):
    """Fills what is marked with the mean of the picture."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image * (1 - mask) + image.mean() * mask


class Called:
    """As much of a descriptor as a task needs; calls `before` with each call's number."""

    size_requirements = type("Sizes", (), {"minimum": 0, "multiple_of": 8, "square": False})

    def __init__(self, module: nn.Module, before: Callable[[int], None]) -> None:
        self.module = module
        self.before = before
        self.calls = 0

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.calls += 1
        self.before(self.calls)
        return self.module(*inputs)


class CountingSink:
    """Counts how often each pixel is written, and hands on."""

    def __init__(self, sink: Any, shape: tuple[int, ...]) -> None:
        self.sink = sink
        self.written = torch.zeros(shape, dtype=torch.int32)
        self.finished = torch.zeros(shape, dtype=torch.int32)

    @property
    def result(self) -> Tensor:
        return self.sink.result

    def reserve(self, region: Region) -> None:
        assert not self.finished[region.slices].any(), "memory of finished pixels was cleared"
        self.sink.reserve(region)

    def write(self, region: Region, pixels: Tensor) -> None:
        self.written[region.slices] += 1
        self.sink.write(region, pixels)

    def finish(self, region: Region) -> None:
        self.finished[region.slices] += 1
        self.sink.finish(region)


Made = tuple[Task[Any], CountingSink]


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Looking for cycles is quick: among what the test itself makes."""
    gc.freeze()
    yield
    gc.unfreeze()


def made_tiles(device: torch.device, before: Callable[[int], None], whole: bool = False) -> Made:
    """Pictures with alpha, so that each goes through twice."""
    images = torch.cat([pictures(FRAMES, SIDE), pictures(FRAMES, SIDE)[..., :1]], -1)
    network = TileNetwork(Called(Doubled(), before), 2, (3, 3), torch.float32, device)
    canvas = Canvas(SIDE, SIDE)
    tiles = canvas.whole() if whole else canvas.tiles(24, 2)
    plan = TilePlan(canvas, tiles, 2, Halo(2, exact=True), Cost(0, 0))
    task = TileTask(network, plan, images, lambda: 2)
    shape = task.result_shape
    return task, CountingSink(TensorSink(torch.full(shape, torch.nan)), shape)


def made_resized(device: torch.device, before: Callable[[int], None]) -> Made:
    """The same, brought to another size."""
    task, sink = made_tiles(device, before)
    assert isinstance(task, TileTask)
    shape = task.result_shape
    result = torch.full((FRAMES, 50, 60, shape[-1]), torch.nan)
    sink.sink = ResizingSink(result, shape, ResultSize(width=60, height=50))
    return task, sink


def made_pictures(device: torch.device, before: Callable[[int], None]) -> Made:
    """Hints of one channel, which stands for three."""
    module = Edges().to(device)
    calls = Called(module, before)
    module.register_forward_pre_hook(lambda *_: before(calls.calls))

    def count(*_: Any) -> None:
        calls.calls += 1

    module.register_forward_pre_hook(count, prepend=True)
    task = PictureTask(call_of(module, device, (SIDE, SIDE)), 2, pictures(FRAMES, SIDE))
    shape = (FRAMES, SIDE, SIDE, 3)
    return task, CountingSink(TensorSink(torch.full(shape, torch.nan)), shape)


def made_whole(device: torch.device, before: Callable[[int], None]) -> Made:
    """Inpainting, of sizes that need padding."""
    images = pictures(FRAMES, SIDE)[:, :, :-3]
    marked = torch.zeros(1, SIDE, SIDE - 3, 1, dtype=torch.bool)
    marked[:, 10:20, 5:15] = True
    descriptor: Any = Called(Filler(), before)
    network: Any = type("Network", (), {"device": device, "dtype": torch.float32, "facts": Memo(8)})
    task = WholeTask(descriptor, network, images, marked)
    return task, CountingSink(MaskedSink(images.clone(), marked), tuple(images.shape))


TASKS: dict[str, Callable[..., Made]] = {
    "tiles": made_tiles,
    "whole tiles": functools.partial(made_tiles, whole=True),
    "resized": made_resized,
    "pictures": made_pictures,
    "inpainting": made_whole,
}
MOST_CALLS = 40


def nothing(_: int) -> None:
    """No fault."""


def finish(made: Made, ui: Ui = stream.SILENT) -> tuple[Tensor, CountingBudget]:
    """The result, after a look at how often each pixel was written."""
    task, sink = made
    budget = CountingBudget(task.device)
    with torch.inference_mode():
        stream.run(task, sink, budget, ui)
    assert (sink.finished == 1).all(), "a pixel was not finished, or twice"
    assert (sink.written == 1).all(), "a pixel was not written, or twice"
    return sink.result, budget


@functools.cache
def uninterrupted(name: str) -> Tensor:
    """On the CPU, without a fault."""
    return finish(TASKS[name](CPU, nothing))[0]


@pytest.mark.parametrize("name", TASKS)
def test_a_run_writes_what_the_network_says_of_whole_pictures(name: str) -> None:
    found = uninterrupted(name)
    assert found.isfinite().all()
    if name in ("tiles", "whole tiles", "resized"):
        images = torch.cat([pictures(FRAMES, SIDE), pictures(FRAMES, SIDE)[..., :1]], -1)
        large = Doubled()(images.movedim(-1, 1)).movedim(1, -1)
        wanted = [resized(one, (50, 60), "bicubic") for one in large]
        assert torch.allclose(found, torch.stack(wanted) if name == "resized" else large, atol=1e-5)
    assert found.std() > 0.005, "the result is flat: every difference would hide"


@pytest.mark.parametrize("where", ["here", "there"])
@pytest.mark.parametrize("name", TASKS)
def test_memory_that_runs_out_at_any_allocation_changes_no_pixel(
    name: str, where: str, emulated_xpu: Callable[..., EmulatedXpu]
) -> None:
    emulated = emulated_xpu([DeviceSpec(A770)], async_copies=True, poison=True)
    card = emulated.devices[0]
    reached = 0
    for nth in range(1, MOST_CALLS):
        made = TASKS[name](XPU, nothing)
        held = allocated()
        card.reset_counters()
        card.fail_allocation(nth)
        found, budget = at(where, finish, made)
        if not budget.emptied:
            card.fail_allocation(0)
            break
        reached += 1
        assert (found - uninterrupted(name)).abs().max() <= 1 / 255
        assert allocated() == held, "memory of the card is still held"
        del made
    assert reached >= 5, "the injected failures were not reached"


def allocated() -> int:
    """Bytes of tensors on the card, after its copies and without networks that nobody has."""
    with torch.inference_mode():  # copies that are late may be to inference tensors
        torch.xpu.synchronize()
    gc.collect()
    return torch.xpu.memory_allocated()


def at(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` at a location."""
    from comfyui_ipex.xpu_runtime.placement.location import Here, There

    class FakeWorker:
        """Calls at once, as a worker's thread does."""

        def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
            return function(*arguments)

    worker: Any = FakeWorker()
    location = Here(XPU) if where == "here" else There(worker, XPU)
    return location.call(function, *arguments)


@pytest.mark.parametrize("device", ["cpu", "xpu"])
@pytest.mark.parametrize("name", TASKS)
def test_memory_that_runs_out_in_any_call_of_the_network_changes_no_pixel(
    name: str, device: str, emulated_xpu: Callable[..., EmulatedXpu]
) -> None:
    emulated_xpu([DeviceSpec(A770)])
    texts = ["XPU out of memory", "DefaultCPUAllocator: can't allocate memory: you tried"]
    for nth in range(1, MOST_CALLS):
        calls: list[int] = []

        def short(call: int, calls: list[int] = calls, nth: int = nth) -> None:
            calls.append(call)
            if len(calls) == nth:
                raise RuntimeError(texts[nth % 2])

        made = TASKS[name](torch.device(device), short)
        found, budget = finish(made)
        assert (found - uninterrupted(name)).abs().max() <= 1 / 255
        if len(calls) < nth:
            break
        assert budget.emptied == 1
    assert nth > 3, "the injected failures were not reached"


@pytest.mark.parametrize("device", ["cpu", "xpu"])
@pytest.mark.parametrize("name", TASKS)
def test_an_error_or_an_interrupt_at_any_call_is_raised_and_leaves_nothing(
    name: str, device: str, emulated_xpu: Callable[..., EmulatedXpu]
) -> None:
    emulated_xpu([DeviceSpec(A770)], async_copies=True, poison=True)

    def stop_at(nth: int) -> Callable[..., None]:
        calls: list[None] = []

        def stop(*_: Any) -> None:
            calls.append(None)
            if len(calls) == nth:
                raise InjectedError

        return stop

    kinds: dict[str, Callable[[int], tuple[Callable[..., None], Ui]]] = {
        "error": lambda nth: (stop_at(nth), stream.SILENT),
        "interrupt": lambda nth: (nothing, Ui(check_interrupted=stop_at(nth))),
        "progress": lambda nth: (nothing, Ui(progress=stop_at(nth))),
    }
    for kind, fault in kinds.items():
        for nth in (1, 2, 3):
            before, ui = fault(nth)
            made = TASKS[name](torch.device(device), before)
            held = allocated()
            with pytest.raises(InjectedError):
                finish(made, ui)
            task, sink = made
            assert (sink.finished <= 1).all(), f"{kind}: a pixel was finished twice"
            assert allocated() == held, f"{kind}: memory is still held"
            del task, sink, made


def test_a_piece_that_never_fits_is_an_error_with_a_remedy_after_room_was_made() -> None:
    def never(_: int) -> None:
        raise torch.OutOfMemoryError("XPU out of memory")

    remedies = {"pictures": "smaller resolution", "inpainting": "Make the picture smaller"}
    for name, make in TASKS.items():
        task, sink = make(CPU, never)
        budget = CountingBudget(CPU)
        with pytest.raises(torch.OutOfMemoryError, match=remedies.get(name, "Close other")):
            stream.run(task, sink, budget)
        assert budget.cleared == 1, "other models were not asked to leave, once"
        assert not sink.written.any()


def test_what_a_failed_call_held_is_free_before_the_piece_is_cut(
    emulated_xpu: Callable[..., EmulatedXpu],
) -> None:
    """How far the network looks is found out then, which takes memory again."""
    emulated_xpu([DeviceSpec(A770)])
    seen: list[int] = []

    def short(call: int) -> None:
        if call == 1:
            held = torch.ones(1 << 20, device=XPU)
            raise torch.OutOfMemoryError(f"XPU out of memory beside {held.nbytes}")

    def look() -> int:
        seen.append(allocated())
        return 2

    task, sink = made_tiles(XPU, short, whole=True)
    assert isinstance(task, TileTask)
    task.at_once, task._look = 1, look
    before = allocated()
    finish((task, sink))
    assert seen == [before]
