"""Models that people use: Real-ESRGAN and DAT-light, with their own weights and a photo."""

import functools
from collections.abc import Callable
from typing import Any

import ncnn_weights
import networks
import pytest
import torch
from comfyui_ipex.inference.dry_run import Cost
from comfyui_ipex.nodes.upscale import halo
from comfyui_ipex.nodes.upscale.halo import Halo
from comfyui_ipex.nodes.upscale.model import needs_of
from comfyui_ipex.nodes.upscale.plan import TilePlan
from comfyui_ipex.nodes.upscale.tile_task import TileNetwork, TileTask
from comfyui_ipex.nodes.upscale.tiles import Canvas
from streams import upscaled
from torch import Tensor
from torch.nn import functional
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

CPU, XPU = torch.device("cpu"), torch.device("xpu:0")

# How far each looks: both figures were also found by others' experiments with their seams.
HALOS = {"anime_video": 18, "anime": 94}

MODELS: dict[str, Callable[[], Any]] = {
    "anime_video": functools.cache(ncnn_weights.anime_video),
    "anime": functools.cache(ncnn_weights.anime),
    "dat": functools.cache(networks.real_dat),
}

# Flat, so that the halo of 94 pixels is paid for in one direction only.
HEIGHT, WIDTH = 12, 240


@functools.cache
def whole(name: str) -> Tensor:
    """What the untiled model makes of the photo."""
    photo = networks.photo(HEIGHT, WIDTH)
    return MODELS[name]()(photo.movedim(-1, 1)).movedim(1, -1)


@functools.cache
def halo_of(name: str) -> Halo:
    """What the probe finds."""
    model = MODELS[name]()
    return halo.find_halo(model, needs_of(model), model.input_channels, model.scale)


def tiled(model: Any, found: Halo, device: torch.device, core: int = 40) -> Tensor:
    """The photo in tiles on `device`."""
    canvas = Canvas(HEIGHT, WIDTH, needs_of(model))
    tiles = canvas.tiles(core + 2 * found.pixels, found.pixels)
    plan = TilePlan(canvas, tiles, 1, found, Cost(0, 0))
    assert len(plan.tiles) >= 2
    network = TileNetwork(model, model.scale, (3, 3), torch.float32, device)
    return upscaled(TileTask(network, plan, networks.photo(HEIGHT, WIDTH)))


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_are_those_of_a_model_that_enlarges_photos(name: str) -> None:
    small = functional.interpolate(whole(name).movedim(-1, 1), (HEIGHT, WIDTH), mode="area")
    assert (small.movedim(1, -1) - networks.photo(HEIGHT, WIDTH)).abs().mean() < 6 / 255


@pytest.mark.parametrize("name", HALOS)
def test_tiles_equal_the_whole_picture_bit_for_bit(name: str) -> None:
    found = halo_of(name)
    assert found == Halo(HALOS[name], exact=True)
    assert torch.equal(tiled(MODELS[name](), found, CPU), whole(name))


@pytest.mark.parametrize("name", HALOS)
def test_with_half_the_halo_there_are_seams(name: str) -> None:
    """So that equality above says something about the halo."""
    short = Halo(HALOS[name] // 2, exact=False)
    assert not torch.equal(tiled(MODELS[name](), short, CPU), whole(name))


@pytest.mark.parametrize("name", HALOS)
def test_an_emulated_card_gives_what_the_cpu_gives(
    name: str, emulated_xpu: Callable[..., EmulatedXpu]
) -> None:
    model, found, expected = MODELS[name](), halo_of(name), whole(name)
    emulated_xpu([DeviceSpec(A770)])
    model.to(XPU)
    try:
        assert (tiled(model, found, XPU) - expected).abs().max() <= 1e-5
    finally:
        model.to("cpu")
