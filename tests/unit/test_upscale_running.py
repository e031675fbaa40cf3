"""Tiled and untiled runs give the same bits on the CPU; what a run costs is known before."""

from typing import Any

import networks
import pytest
import torch
from comfyui_ipex.inference import precision
from comfyui_ipex.inference.dry_run import Cost, cost_of, meta_copy
from comfyui_ipex.inference.stream import Ui
from comfyui_ipex.nodes.upscale import halo
from comfyui_ipex.nodes.upscale.channels import ChannelsError, passes
from comfyui_ipex.nodes.upscale.halo import Halo
from comfyui_ipex.nodes.upscale.model import needs_of, with_module
from comfyui_ipex.nodes.upscale.plan import TilePlan
from comfyui_ipex.nodes.upscale.tile_task import TileNetwork, TileTask
from comfyui_ipex.nodes.upscale.tiles import Canvas, Needs
from streams import upscaled

CPU = torch.device("cpu")

CONVOLUTIONAL = {
    "compact": networks.compact,
    "rrdb": networks.rrdb,
    "span": networks.span,
}


def network_of(model: Any) -> TileNetwork:
    channels = (model.input_channels, model.output_channels)
    return TileNetwork(model, model.scale, channels, torch.float32, CPU)


def plan_of(canvas: Canvas, window: int, found: Halo, batch: int = 1) -> TilePlan:
    return TilePlan(canvas, canvas.tiles(window, found.pixels), batch, found, Cost(0, 0))


def halo_of(model: Any) -> Halo:
    return halo.find_halo(model, needs_of(model), model.input_channels, model.scale)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_of_a_convolutional_model_equal_the_whole_picture_bit_for_bit(
    name: str, batch: int
) -> None:
    model = CONVOLUTIONAL[name]()
    found = halo_of(model)
    assert found.exact
    images = torch.cat([networks.photo(110, 150), networks.photo(110, 150, 200, 40)])
    canvas = Canvas(110, 150, needs_of(model))
    whole = model(images.movedim(-1, 1)).movedim(1, -1)
    plan = plan_of(canvas, 40 + 2 * found.pixels, found, batch)
    assert len(plan.tiles) >= 6
    tiled = upscaled(TileTask(network_of(model), plan, images))
    assert tiled.std() > 0.005, "the picture is flat: every difference would hide"
    assert torch.equal(tiled, whole)


def test_a_halo_one_pixel_smaller_shows_a_seam() -> None:
    """The halo that was found is no larger than it must be, so the comparison can fail."""
    model = networks.compact(convolutions=4)
    assert halo_of(model) == Halo(6, exact=True)
    images = networks.photo(96, 96)
    whole = model(images.movedim(-1, 1)).movedim(1, -1)
    plan = plan_of(Canvas(96, 96), 60, Halo(5, exact=False))
    assert not torch.equal(upscaled(TileTask(network_of(model), plan, images)), whole)


@pytest.mark.parametrize("make", [networks.swinir, networks.real_dat], ids=["swinir", "dat"])
def test_attention_gets_a_stated_halo_with_a_note(make: Any) -> None:
    found = halo_of(make())
    assert not found.exact
    assert found.pixels == halo.STATED
    assert "looks at the whole picture" in found.note


def test_real_weights_in_tiles_stay_near_the_whole_picture() -> None:
    """DAT-light looks everywhere: its tiles differ, but by far less than one sees."""
    model = networks.real_dat()
    images = networks.photo(96, 128)
    whole = model(images.movedim(-1, 1)).movedim(1, -1)
    plan = plan_of(Canvas(96, 128, needs_of(model)), 96, Halo(halo.STATED, exact=False))
    tiled = upscaled(TileTask(network_of(model), plan, images))
    assert (tiled - whole).abs().mean() < 1 / 255
    assert tiled.shape == (1, 192, 256, 3)


def test_sizes_that_a_model_needs_are_padded_as_spandrel_does() -> None:
    model = networks.compact()
    model.size_requirements.minimum = 48
    model.size_requirements.multiple_of = 16
    images = networks.photo(50, 70)
    whole = model(images.movedim(-1, 1)).movedim(1, -1)
    canvas = Canvas(50, 70, needs_of(model))
    assert canvas.needs == Needs(48, 16)
    tiled, untiled = (
        upscaled(TileTask(network_of(model), plan_of(canvas, window, Halo(6, True)), images))
        for window in (48, 1000)
    )
    assert torch.equal(tiled, untiled)
    # spandrel pads into another memory layout.
    assert torch.allclose(tiled, whole, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gray_and_alpha_keep_their_channels(channels: int) -> None:
    model = networks.compact()
    images = torch.cat([networks.photo(40, 40), networks.photo(40, 40)[..., :1]], -1)
    images = images[..., :channels]
    result = upscaled(
        TileTask(network_of(model), plan_of(Canvas(40, 40), 40, Halo(0, True)), images)
    )
    assert result.shape == (1, 160, 160, channels)
    if channels == 4:
        rgb = model(images[..., :3].movedim(-1, 1)).movedim(1, -1)
        assert torch.equal(result[..., :3], rgb)


def test_models_of_one_channel_take_colours_one_by_one() -> None:
    assert len(passes(3, 1, 1)) == 3
    assert passes(1, 1, 1)[0].targets == (0,)
    with pytest.raises(ChannelsError, match="2 channels"):
        passes(2, 3, 3)


def test_progress_ends_at_the_total_and_an_interrupt_ends_the_run() -> None:
    model = networks.compact()
    images = networks.photo(64, 64)
    plan = plan_of(Canvas(64, 64), 32, Halo(6, True))
    told: list[tuple[int, int]] = []
    upscaled(TileTask(network_of(model), plan, images), Ui(lambda *now: told.append(now)))
    assert len(told) == len(plan.tiles)
    assert told[-1][0] == told[-1][1] == 256 * 256

    class StopError(Exception):
        pass

    def stop() -> None:
        if len(told) == len(plan.tiles) + 2:
            raise StopError

    around = Ui(lambda *now: told.append(now), stop)
    with pytest.raises(StopError):
        upscaled(TileTask(network_of(model), plan, images), around)


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, "swinir", "dat"])
def test_the_dry_run_costs_what_the_real_run_does(name: str) -> None:
    """Operator by operator on the CPU; what allocators measure is in the benchmarks."""
    makers: dict[str, Any] = {
        **CONVOLUTIONAL,
        "swinir": networks.swinir,
        "dat": networks.real_dat,
    }
    model = makers[name]()
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    dry_model = with_module(model, meta_copy(model.model))
    dry = cost_of(dry_model, torch.empty(1, 3, 48, 48, device="meta"))
    assert all(torch.equal(value, before[key]) for key, value in model.model.state_dict().items())
    assert cost_of(model, torch.rand(1, 3, 48, 48)).peak == pytest.approx(dry.peak, rel=0.02)
    assert model(torch.rand(1, 3, 48, 48)).isfinite().all(), "the dry run broke the model"


def test_half_precision_is_checked_and_falls_back() -> None:
    reference = torch.full((1, 3, 8, 8), 0.5)
    results = {
        torch.float32: reference,
        torch.float16: reference + torch.inf,
        torch.bfloat16: reference + 1 / 255,
    }
    halves = [torch.float16, torch.bfloat16]
    chosen, checks = precision.checked(results.__getitem__, halves)
    assert chosen == torch.bfloat16
    assert [check.passed for check in checks] == [False, True]
    assert "bf16 used: off by 1.00/255" in checks[1].text
    results[torch.bfloat16] = reference + 3 / 255
    assert precision.checked(results.__getitem__, halves)[0] == torch.float32
    assert precision.checked(results.__getitem__, []) == (torch.float32, ())
