"""Tiles cover a picture once, see enough around them, and are never slivers."""

import pytest
from comfyui_ipex.inference.dry_run import Cost
from comfyui_ipex.nodes.upscale.halo import Halo
from comfyui_ipex.nodes.upscale.plan import (
    SHORT_HALO,
    DoesNotFitError,
    Limits,
    TilePlan,
    TileRequest,
    plan_tiles,
)
from comfyui_ipex.nodes.upscale.tiles import Canvas, Needs, Tile, work

MIB = 1 << 20

CASES = [
    (Canvas(100, 333), 64, 9),
    (Canvas(1024, 1024), 530, 18),
    (Canvas(97, 61, Needs(minimum=16, multiple_of=4)), 40, 5),
    (Canvas(70, 200, Needs(minimum=32, multiple_of=8, square=True)), 64, 8),
    (Canvas(7, 9, Needs(minimum=64)), 64, 8),
    (Canvas(1, 1), 8, 2),
]


def check(canvas: Canvas, tiles: tuple[Tile, ...], halo: int) -> None:
    """Every rule of a set of tiles."""
    height, width = canvas.padded
    seen = [[0] * canvas.width for _ in range(canvas.height)]
    for tile in tiles:
        core, window = tile.core, tile.window
        for y in range(core.top, core.bottom):
            for x in range(core.left, core.right):
                seen[y][x] += 1
        assert window.top <= max(0, core.top - halo)
        assert window.left <= max(0, core.left - halo)
        assert window.bottom >= min(height, core.bottom + halo)
        assert window.right >= min(width, core.right + halo)
        assert window.top >= 0 and window.bottom <= height
        assert window.left >= 0 and window.right <= width
        unit = canvas.needs.multiple_of
        assert window.top % unit == window.left % unit == 0
        assert canvas.needs.padded(window.height, window.width) == (window.height, window.width)
    assert all(count == 1 for row in seen for count in row)


@pytest.mark.parametrize(("canvas", "window", "halo"), CASES, ids=repr)
def test_tiles_cover_the_picture_once_with_halos_and_the_sizes_that_a_model_needs(
    canvas: Canvas, window: int, halo: int
) -> None:
    tiles = canvas.tiles(window, halo)
    check(canvas, tiles, halo)
    assert len({(tile.window.height, tile.window.width) for tile in tiles}) == 1


@pytest.mark.parametrize(("canvas", "window", "halo"), CASES, ids=repr)
def test_split_tiles_still_cover_the_picture_once(canvas: Canvas, window: int, halo: int) -> None:
    tiles = canvas.tiles(window, halo)
    for _ in range(2):
        tiles = tuple(part for tile in tiles for part in canvas.split(tile, halo))
    check(canvas, tiles, halo)


def test_no_tile_is_a_sliver() -> None:
    """The host cuts 1024 pixels into 512, 512 and 64."""
    tiles = Canvas(1024, 1024).tiles(540, 16)
    sides = {tile.core.width for tile in tiles} | {tile.core.height for tile in tiles}
    assert max(sides) - min(sides) <= 1
    assert work(Canvas(1024, 1024), tiles) < 1.07


def test_a_window_of_nothing_but_halo_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps nothing"):
        Canvas(100, 100).tiles(20, 10)


def linear(bytes_per_pixel: int, largest: int = 0) -> object:
    """Costs in proportion to the pixels."""

    def cost(height: int, width: int, batch: int, several: bool) -> Cost:
        pixels = height * width * batch
        return Cost(pixels * bytes_per_pixel, pixels * (largest or bytes_per_pixel))

    return cost


def never(most: int | None) -> Halo:
    raise AssertionError("the halo was asked for although nothing is cut")


def test_a_picture_that_fits_is_not_cut_and_no_halo_is_looked_for() -> None:
    plan = plan_tiles(Canvas(512, 512), 1, never, linear(1000), Limits(512 * MIB, None))
    assert len(plan.tiles) == 1
    assert plan.halo.pixels == 0
    assert plan.cost.peak == 512 * 512 * 1000


@pytest.mark.parametrize("free", [30, 100, 400])
def test_what_is_planned_fits_the_free_memory_and_fills_it_well(free: int) -> None:
    limits = Limits(free * MIB, None)
    plan = plan_tiles(Canvas(1024, 1024), 1, lambda most: Halo(18, True), linear(1000), limits)
    assert limits.fit(plan.cost)
    assert plan.cost.peak > 0.35 * limits.free
    assert plan.halo.exact


def test_no_tensor_exceeds_the_largest_allocation() -> None:
    limits = Limits(1 << 50, 64 * MIB)
    costs = linear(5000, 4096)
    plan = plan_tiles(Canvas(2048, 2048), 4, lambda most: Halo(18, True), costs, limits)
    assert plan.cost.largest <= 64 * MIB


def test_small_pictures_are_batched_and_large_ones_are_not() -> None:
    limits = Limits(1 << 40, None)
    assert plan_tiles(Canvas(256, 256), 9, never, linear(1000), limits).batch == 8
    assert plan_tiles(Canvas(256, 256), 3, never, linear(1000), limits).batch == 3
    assert plan_tiles(Canvas(2048, 2048), 8, never, linear(1000), limits).batch == 1
    tight = Limits(2 * 256 * 256 * 1000, None)
    assert plan_tiles(Canvas(256, 256), 8, never, linear(1000), tight).batch == 2


def test_on_the_cpu_tiles_are_small_at_little_work() -> None:
    limits = Limits(1 << 40, None, small=True)
    plan = plan_tiles(Canvas(1024, 1024), 4, lambda most: Halo(18, True), linear(513), limits)
    assert plan.batch == 1
    assert plan.work <= 1.1
    assert plan.cost.peak < 1024 * 1024 * 513 / 3
    strips = plan_tiles(Canvas(1024, 1024), 1, lambda most: Halo(34, True), linear(513), limits)
    assert [(t.window.height, t.window.width) for t in strips.tiles] == [(546, 1024)] * 2
    assert strips.work <= 1.1
    square = Canvas(1024, 1024, Needs(square=True))
    assert len(plan_tiles(square, 1, lambda most: Halo(34, True), linear(513), limits).tiles) == 1
    far = plan_tiles(Canvas(1024, 1024), 1, lambda most: Halo(349, True), linear(513), limits)
    assert len(far.tiles) == 1


def far(free: int) -> TilePlan:
    """The plan for a model that looks 349 pixels far, on `free` bytes."""
    limits = Limits(free, None)
    return plan_tiles(Canvas(2048, 2048), 1, lambda most: Halo(349, True), linear(1000), limits)


def test_exact_tiles_are_taken_whatever_they_cost_and_the_user_is_told() -> None:
    plan = far(1200 * 1200 * 1000)
    assert plan.halo == Halo(349, True)
    assert plan.work > 2
    assert f"{plan.work:.1f} times the picture. With halo {SHORT_HALO} it is faster" in plan.remark
    near = far(1900 * 1900 * 1000)
    assert near.halo.exact
    assert not near.remark, "two windows a side cost little"


def test_a_halo_is_shortened_where_no_exact_tile_fits_and_the_user_is_told() -> None:
    plan = far(700 * 700 * 1000)
    assert plan.halo == Halo(SHORT_HALO, exact=False)
    assert plan.shortened
    assert "faint seams are possible" in plan.remark


def test_request_are_followed() -> None:
    limits = Limits(1, None)
    request = TileRequest(tile=100, batch=3)
    plan = plan_tiles(
        Canvas(400, 400), 1, lambda most: Halo(10, True), linear(1000), limits, request
    )
    assert plan.batch == 3
    assert {tile.window.height for tile in plan.tiles} <= set(range(100, 121))


def test_what_fits_nowhere_is_an_error_with_a_remedy() -> None:
    with pytest.raises(DoesNotFitError, match="Close other programs"):
        plan_tiles(
            Canvas(400, 400), 1, lambda most: Halo(10, True), linear(1000), Limits(1000, None)
        )
