"""Networks that do what others do not: write to their input, mix or refuse batches, colour."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import networks
import pytest
import torch
from comfyui_ipex.inference.dry_run import Cost
from comfyui_ipex.inference.facts import Memo
from comfyui_ipex.nodes.upscale import model as models
from comfyui_ipex.nodes.upscale.channels import passes, result_channels
from comfyui_ipex.nodes.upscale.halo import Halo, find_halo
from comfyui_ipex.nodes.upscale.plan import TilePlan
from comfyui_ipex.nodes.upscale.tile_task import TileTask
from comfyui_ipex.nodes.upscale.tiles import Canvas, Needs
from streams import CountingBudget, upscaled
from torch import Tensor

CPU = torch.device("cpu")

Network = Callable[[Tensor], Tensor]


class Model:
    """As much of a spandrel descriptor as a run needs, around any function."""

    scale = 1
    input_channels = output_channels = 3
    architecture = SimpleNamespace(name="Odd")
    size_requirements = SimpleNamespace(minimum=0, multiple_of=1, square=False)

    def __init__(self, network: Network) -> None:
        self.network = network
        self.model = torch.nn.Identity()

    def __call__(self, image: Tensor) -> Tensor:
        return self.network(image)


def network_of(digest: str, meta: Any = None) -> Any:
    """A network on the CPU in fp32, but for a patcher."""
    return SimpleNamespace(
        dtype=torch.float32, device=CPU, digest=digest, meta=meta, facts=Memo(16)
    )


def test_a_network_that_writes_to_its_input_leaves_the_users_picture_alone() -> None:
    model = Model(lambda image: image.mul_(0.5) + 0.1)
    images = networks.photo(24, 60)
    before = images.clone()
    canvas = Canvas(24, 60)
    plan = TilePlan(canvas, canvas.tiles(40, 4), 1, Halo(4, True), Cost(0, 0))
    tiles = models.tile_network(model, network_of("writes"))
    result = upscaled(TileTask(tiles, plan, images))
    assert torch.equal(images, before)
    assert torch.equal(result, before * 0.5 + 0.1)


def refuses(image: Tensor) -> Tensor:
    """As DnCNN does, which appends one channel of noise."""
    return torch.cat([image, torch.zeros(1, 1, *image.shape[2:])], 1)[:, :3]


BATCHES: dict[str, tuple[Network, bool]] = {
    "each by itself": (lambda image: image * 0.5, True),
    "the mean of all": (lambda image: image - image.mean(), False),
    "refuses": (refuses, False),
    "writes to its input": (lambda image: image.mul_(0.5), True),
}


@pytest.mark.parametrize("name", BATCHES)
def test_pictures_are_batched_only_where_that_changes_nothing(name: str) -> None:
    network, expected = BATCHES[name]
    model = Model(network)
    assert models.takes_batches(model, network_of(name)) is expected


def test_memory_that_runs_out_is_no_refusal_of_batches() -> None:
    def full(image: Tensor) -> Tensor:
        if len(image) > 1:
            raise torch.OutOfMemoryError("XPU out of memory")
        return image

    model = Model(full)
    with pytest.raises(torch.OutOfMemoryError):
        models.takes_batches(model, network_of("full"))


class ShortOfMemory:
    """A blur over 5 pixels, for which memory runs out the first time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 1:
            raise torch.OutOfMemoryError("XPU out of memory")
        return torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)


def planned_whole(
    images: Tensor, look: Callable[[], int | None], network: type[ShortOfMemory] = ShortOfMemory
) -> TileTask:
    """A run of a picture that fits by its plan, so that nobody asked how far the model looks."""
    model = Model(network())
    canvas = Canvas(*images.shape[1:3])
    plan = TilePlan(canvas, canvas.whole(), 1, Halo(0, True), Cost(0, 0))
    return TileTask(models.tile_network(model, network_of("short")), plan, images, look)


def test_a_picture_that_was_planned_whole_and_must_be_cut_has_no_seam() -> None:
    images = networks.photo(48, 60)
    whole = torch.nn.functional.avg_pool2d(
        images.movedim(-1, 1), 5, 1, 2, count_include_pad=False
    ).movedim(1, -1)
    assert torch.allclose(upscaled(planned_whole(images, lambda: 2)), whole, atol=1e-6)
    assert not torch.allclose(upscaled(planned_whole(images, lambda: 0)), whole, atol=1e-3)


def test_a_picture_that_must_not_be_cut_is_an_error_when_memory_runs_out() -> None:
    class NeverEnough(ShortOfMemory):
        def __call__(self, image: Tensor) -> Tensor:
            self.calls = 0
            return super().__call__(image)

    task = planned_whole(networks.photo(48, 60), lambda: None, NeverEnough)
    budget = CountingBudget(CPU)
    with pytest.raises(torch.OutOfMemoryError, match="cannot be made smaller"):
        upscaled(task, budget=budget)
    assert budget.cleared == 1, "other models were not asked to leave, once"


def test_a_network_that_looks_at_its_numbers_is_measured_instead_of_run_dry() -> None:
    """The measured cost grows with the pixels, and is that of the network's own tensors."""

    def looks(image: Tensor) -> Tensor:
        wide = torch.cat([image] * (8 if image.mean().item() >= 0 else 1), 1)
        return wide[:, :3].clone()

    model = Model(looks)
    costs = models.costs_of(model, network_of("looks", torch.nn.Identity()), 3)
    small, large = costs(64, 64, 1, False), costs(256, 128, 1, False)
    pixel = 3 * 4
    # The picture, its copy on the CPU, eight of them side by side, the result.
    assert small.peak == pytest.approx(64 * 64 * pixel * 11, rel=0.1)
    assert large.peak == pytest.approx(8 * small.peak, rel=0.01)
    assert small.largest == 64 * 64 * pixel * 8


@pytest.mark.parametrize(("channels", "outputs"), [(1, 3), (3, 3), (4, 4)])
def test_a_model_that_colours_gray_pictures_takes_any(channels: int, outputs: int) -> None:
    ways = passes(channels, 1, 3)
    assert result_channels(ways) == outputs
    pixels = torch.rand(1, 2, 2, channels)
    seen = ways[0].gather(pixels)
    brightness = pixels[..., :3] @ torch.tensor([0.299, 0.587, 0.114]) if channels > 1 else None
    expected = pixels if brightness is None else brightness[..., None]
    assert torch.allclose(seen, expected)
    assert ways[0].targets == (0, 1, 2)


def test_the_halo_of_a_model_with_large_square_groups_is_not_looked_for_outside_the_strip() -> None:
    """Uformer: three groups of 128 are more than half of the shortest strip."""
    needs = Needs(multiple_of=128, square=True)
    assert not find_halo(lambda image: image, needs, 1, 1).exact
