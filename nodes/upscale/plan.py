"""Which tiles, and how many at once, so that a run fits before it starts."""

from collections.abc import Callable
from dataclasses import dataclass

from ...inference.budget import DoesNotFitError, Limits
from ...inference.dry_run import Cost
from .halo import Halo
from .tiles import Canvas, Tile, work

MOST_WORK = 2.0
"""Where the tiles make the network compute more than this many times the picture's pixels, the
user is told what a shorter halo would save."""

SHORT_HALO = 64
"""The halo that is taken where no tile with the model's own fits the memory."""

SMALL_WORK = 1.1
"""On the CPU tiles are as small as they can be within this much work: they bound the memory,
and large ones gain nothing."""

SMALLEST_WINDOW = 256
"""Tiles are not made smaller than a square of this side for the sake of memory that is there."""

BATCH_PIXELS = 1 << 19
"""Small pictures are batched up to about this many pixels: enough to keep a card busy, and few
enough that results of one batch are copied while the next is computed."""

_MOST_TILES = 512

# Of windows along a side, as a multiple of it: beyond, a tile is nothing but halo.
_MOST_OVERLAP = 3

_SAMPLE_SIDE = 128


@dataclass(frozen=True)
class TilePlan:
    canvas: Canvas
    tiles: tuple[Tile, ...]
    """Of each frame."""
    batch: int
    """Windows a call."""
    halo: Halo
    cost: Cost
    """Of one call, with what the transfers around it hold."""
    shortened: bool = False
    """No tile with the model's own halo fits the memory."""

    @property
    def work(self) -> float:
        """Pixels computed, as a multiple of the picture's."""
        return work(self.canvas, self.tiles)

    @property
    def text(self) -> str:
        window = self.tiles[0].window
        return (
            f"{len(self.tiles)} tile(s) of {window.width}x{window.height} a frame, {self.batch} "
            f"at once, halo {self.halo.pixels}, {self.cost.peak / 2**20:.0f} MiB predicted"
        )

    @property
    def remark(self) -> str:
        """What the user should know about the halo; empty if there is nothing."""
        if self.shortened:
            return (
                f"No tile with all that the model looks at fits the memory. Its halo is "
                f"{self.halo.pixels} pixels instead, so that faint seams are possible. Close other "
                "programs that use the device, or make the picture smaller, for an exact result."
            )
        if self.halo.pixels > SHORT_HALO and self.work > MOST_WORK:
            return (
                f"The model looks {self.halo.pixels} pixels far, and tiles without seams make it "
                f"compute {self.work:.1f} times the picture. With halo {SHORT_HALO} it is faster; "
                "faint seams are then possible."
            )
        return ""


@dataclass(frozen=True)
class TileRequest:
    """What the user fixed; 0 means planned."""

    tile: int = 0
    """Pixels of a side that are kept; the halo comes on top."""
    batch: int = 0


PLANNED = TileRequest()

FindHalo = Callable[[int | None], Halo]
"""(most pixels that are of use, or None) -> the halo; one that is not exact if it is larger."""

Costs = Callable[[int, int, int, bool], Cost]
"""(height, width, batch, several) -> the cost of one call. With several calls, each result is
still on its way to the CPU while the next is computed."""


def plan_tiles(
    canvas: Canvas,
    frames: int,
    halo: FindHalo,
    costs: Costs,
    limits: Limits,
    request: TileRequest = PLANNED,
) -> TilePlan:
    """The plan for `frames` pictures. `halo` is asked only if a picture is cut.

    A wish for a tile is followed without a look at the memory. Raises `DoesNotFitError` if
    nothing fits.
    """
    shortened = False
    if request.tile:
        found = halo(None)
        tiles = canvas.tiles(request.tile + 2 * found.pixels, found.pixels)
    else:
        tiles, found, shortened = _planned_tiles(canvas, frames, halo, costs, limits)
    window = tiles[0].window
    windows = frames * len(tiles)
    batch = min(_batch(window.pixels, limits, request), windows)
    cost = costs(window.height, window.width, batch, batch < windows)
    while batch > 1 and not request.batch and not limits.fit(cost):
        batch //= 2
        cost = costs(window.height, window.width, batch, True)
    return TilePlan(canvas, tiles, batch, found, cost, shortened)


def _batch(pixels: int, limits: Limits, request: TileRequest) -> int:
    if request.batch:
        return request.batch
    return 1 if limits.small else max(1, BATCH_PIXELS // pixels)


def _planned_tiles(
    canvas: Canvas, frames: int, halo: FindHalo, costs: Costs, limits: Limits
) -> tuple[tuple[Tile, ...], Halo, bool]:
    """The tiles, their halo, and whether that had to be shorter than the model's own.

    Exact tiles are taken whatever they cost in time: a picture without seams was promised, and
    the user can set a shorter halo.
    """
    whole = canvas.whole()
    if _fits(canvas.padded, costs, limits, frames > 1):
        longest = max(canvas.padded)
        if limits.small and longest > SMALLEST_WINDOW:
            # Two strips, the fewest, already cost 1 + 2 * halo / longest.
            found = halo(int(longest * (SMALL_WORK - 1) / 2))
            small = _small(canvas, found.pixels) if found.exact else None
            if small is not None:
                return small, found, False
        return whole, Halo(0, exact=True), False
    found = halo(None)
    cut = _cut(canvas, found.pixels, costs, limits)
    shortened = cut is None and found.pixels > SHORT_HALO
    if shortened:
        found = Halo(SHORT_HALO, exact=False)
        cut = _cut(canvas, SHORT_HALO, costs, limits)
    if cut is None:
        raise DoesNotFitError(
            f"{limits.free / 2**20:.0f} MiB are free, and not even the smallest tile of a picture "
            f"of {canvas.width}x{canvas.height} fits. Close other programs that use the device, "
            "choose another device in Load Upscale Model (IPEX), or set a smaller halo."
        )
    return cut, found, shortened


def _small(canvas: Canvas, halo: int) -> tuple[Tile, ...] | None:
    """The smallest windows at little work: squares, or strips from side to side."""
    height, width = canvas.padded
    best: tuple[Tile, ...] | None = None
    for length, across in ((max(height, width), None), (height, width)):
        if across is not None and canvas.needs.square:
            continue
        for count in range(2, _MOST_TILES):
            try:
                tiles = canvas.tiles(_side(length, count, halo), halo, across)
            except ValueError:
                break
            pixels = tiles[0].window.pixels
            if work(canvas, tiles) > SMALL_WORK or pixels < SMALLEST_WINDOW**2:
                break
            if best is None or pixels < best[0].window.pixels:
                best = tiles
    return best


def _side(length: int, count: int, halo: int) -> int:
    """Of `count` windows that share `length`."""
    return -(-(length + (count - 1) * 2 * halo) // count)


def _cut(canvas: Canvas, halo: int, costs: Costs, limits: Limits) -> tuple[Tile, ...] | None:
    """The largest square windows that fit."""
    longest = max(canvas.padded)
    for count in range(2, _MOST_TILES):
        side = _side(longest, count, halo)
        if count * side > _MOST_OVERLAP * longest:
            break
        try:
            tiles = canvas.tiles(side, halo)
        except ValueError:
            break
        window = tiles[0].window
        if _fits((window.height, window.width), costs, limits, several=True):
            return tiles
    return None


def _fits(window: tuple[int, int], costs: Costs, limits: Limits, several: bool) -> bool:
    """Whether one window may run. A small one tells, quickly, of those that are far too large."""
    height, width = window
    pixels = height * width
    if pixels > _SAMPLE_SIDE**2:
        sample = costs(_SAMPLE_SIDE, _SAMPLE_SIDE, 1, several)
        if not limits.fit(sample.scaled(0.9 * pixels / _SAMPLE_SIDE**2)):
            return False
    return limits.fit(costs(height, width, 1, several))
