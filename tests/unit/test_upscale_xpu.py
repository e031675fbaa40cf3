"""Upscaling on emulated cards: limits, memory that runs out, and what is not done twice."""

from collections.abc import Callable
from typing import Any

import networks
import pytest
import torch
from comfyui_ipex.inference.budget import Limits
from comfyui_ipex.inference.dry_run import Cost, cost_of, meta_copy
from comfyui_ipex.inference.stream import Ui
from comfyui_ipex.nodes.upscale.channels import passes
from comfyui_ipex.nodes.upscale.halo import Halo
from comfyui_ipex.nodes.upscale.model import with_module
from comfyui_ipex.nodes.upscale.plan import TilePlan, plan_tiles
from comfyui_ipex.nodes.upscale.tile_task import TileNetwork, TileTask, compute_tiles
from comfyui_ipex.nodes.upscale.tiles import Canvas
from streams import CountingBudget, upscaled
from torch import Tensor
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

MIB = 1 << 20
GIB = 1 << 30
Make = Callable[..., EmulatedXpu]
XPU = torch.device("xpu:0")
HALO = Halo(6, exact=True)


class Counted:
    """A model on the card that counts the pixels it sees."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.windows: list[tuple[int, ...]] = []

    def __call__(self, image: Tensor) -> Tensor:
        result = self.model(image)
        self.windows.append(tuple(image.shape))
        return result


def tiles_of(network: Any, model: Any, device: torch.device = XPU) -> TileNetwork:
    channels = (model.input_channels, model.output_channels)
    return TileNetwork(network, model.scale, channels, torch.float32, device)


def costs_of(model: Any) -> Any:
    meta = with_module(model, meta_copy(model.model))
    dry, way = tiles_of(meta, model), passes(3, 3, 3)[0]

    def cost(height: int, width: int, batch: int, several: bool) -> Cost:
        pixels = torch.empty(batch, height, width, 3, device="meta")
        found = cost_of(lambda image: compute_tiles(dry, way, image), pixels)
        waits = several * batch * height * width * model.scale**2 * 12
        return Cost(found.peak + waits, found.largest).allocated()

    return cost


def expected(model: Any, images: Tensor) -> Tensor:
    return model(images.movedim(-1, 1)).movedim(1, -1)


@pytest.mark.parametrize(
    ("changes", "largest"),
    [
        ({"max_allocation": 64 * MIB}, 64 * MIB),
        ({"max_allocation": 4 * GIB, "external_memory": 14 * GIB}, 4 * GIB),
        ({"external_memory": A770.total_memory - 128 * MIB}, None),
    ],
    ids=["64 MiB at once", "4 GiB at once, 2 GiB free", "128 MiB free"],
)
def test_a_plan_runs_on_a_card_with_limits_and_without_running_out(
    emulated_xpu: Make, changes: dict[str, int], largest: int | None
) -> None:
    model = networks.compact(features=32)
    images = networks.photo(300, 360)
    whole = expected(model, images)
    costs = costs_of(model)
    emulated = emulated_xpu([DeviceSpec(A770, **changes)])
    model.to(XPU)
    limits = Limits(int(torch.xpu.mem_get_info(0)[0] * 0.9), largest)
    plan = plan_tiles(Canvas(300, 360), 1, lambda most: HALO, costs, limits)
    torch.xpu.reset_peak_memory_stats()
    held = torch.xpu.memory_allocated()
    emulated.reset_counters()
    result = upscaled(TileTask(tiles_of(model, model), plan, images))
    assert emulated.devices[0].counters()["ooms"] == 0
    assert torch.equal(result, whole)
    measured = torch.xpu.max_memory_allocated() - held
    # The plan counts the copy that GPUs' upsampling makes, and the CPU's kernels do not.
    assert 0.6 * plan.cost.peak < measured <= plan.cost.peak


@pytest.mark.parametrize("nth", [1, 4, 8])
@pytest.mark.parametrize("error", ["torch", "out_of_device_memory", "out_of_resources"])
def test_when_memory_runs_out_finished_tiles_are_kept_and_the_rest_gets_smaller(
    emulated_xpu: Make, nth: int, error: str
) -> None:
    model = networks.compact()
    images = networks.photo(128, 128)
    whole = expected(model, images)
    emulated = emulated_xpu([DeviceSpec(A770)])
    emulated.devices[0].change(oom=error)
    model.to(XPU)
    network = Counted(model)
    canvas = Canvas(128, 128)
    plan = TilePlan(canvas, canvas.tiles(64 + 12, 6), 1, HALO, Cost(0, 0))
    assert len(plan.tiles) == 4
    budget = CountingBudget(XPU)
    finished = 0

    def after_two_tiles() -> None:
        nonlocal finished
        if len(network.windows) == 2 and not budget.emptied and not finished:
            finished = 2
            emulated.devices[0].fail_allocation(nth)

    task = TileTask(tiles_of(network, model), plan, images)
    result = upscaled(task, Ui(check_interrupted=after_two_tiles), budget)
    assert torch.equal(result, whole)
    assert budget.emptied, "the injected failure was not reached"
    before = [shape[2] * shape[3] for shape in network.windows[:2]]
    after = [shape[2] * shape[3] for shape in network.windows[2:]]
    assert len(after) == 4, "two tiles were left: each as two halves, nothing else"
    assert max(after) < min(before)


def test_a_batch_is_halved_before_tiles_are(emulated_xpu: Make) -> None:
    model = networks.compact()
    images = networks.photo(48, 48).repeat(4, 1, 1, 1)
    whole = expected(model, images)
    emulated = emulated_xpu([DeviceSpec(A770)])
    model.to(XPU)
    network = Counted(model)
    canvas = Canvas(48, 48)
    plan = TilePlan(canvas, canvas.whole(), 4, HALO, Cost(0, 0))
    emulated.devices[0].fail_allocation(4)
    result = upscaled(TileTask(tiles_of(network, model), plan, images))
    assert torch.equal(result, whole)
    assert [shape[0] for shape in network.windows] == [2, 2]


def test_other_errors_are_not_taken_for_missing_memory(emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770)])
    model = networks.compact()
    images = networks.photo(32, 32)
    canvas = Canvas(32, 32)
    plan = TilePlan(canvas, canvas.whole(), 1, HALO, Cost(0, 0))
    with pytest.raises(RuntimeError, match=r"device|type"):
        upscaled(TileTask(tiles_of(model, model), plan, images))  # the model is still on the CPU


def test_copies_that_take_their_time_are_waited_for(emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770)], async_copies=True, poison=True)
    model = networks.compact()
    images = networks.photo(96, 96).repeat(3, 1, 1, 1)
    whole = expected(model, images)
    model.to(XPU)
    canvas = Canvas(96, 96)
    plan = TilePlan(canvas, canvas.tiles(60, 6), 2, HALO, Cost(0, 0))
    assert torch.equal(upscaled(TileTask(tiles_of(model, model), plan, images)), whole)
