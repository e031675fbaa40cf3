"""Cutting a picture into tiles whose results fit together exactly: arithmetic without torch.

A tile keeps its core and shows the model a window: the core with a halo around it, as far as
the picture goes. Where the halo is the model's receptive field, the kept pixels are those of
the whole picture. All figures are in pixels of the input.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle: rows top to bottom and columns left to right, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Tile:
    """One call's share of a picture."""

    core: Box
    """What is kept. The cores of a plan cover the picture, each pixel once."""
    window: Box
    """What the model sees. It may reach into the padding right of and below the picture."""


@dataclass(frozen=True)
class Needs:
    """What a model asks of the size of its input; the fields are spandrel's."""

    minimum: int = 0
    multiple_of: int = 1
    square: bool = False

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size of a picture after the padding that the model needs."""
        height = _up(max(height, self.minimum), self.multiple_of)
        width = _up(max(width, self.minimum), self.multiple_of)
        side = max(height, width)
        return (side, side) if self.square else (height, width)


@dataclass(frozen=True)
class Canvas:
    height: int
    width: int
    needs: Needs = Needs()

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width with the padding that the model needs."""
        return self.needs.padded(self.height, self.width)

    def whole(self) -> tuple[Tile, ...]:
        return self.tiles(max(self.padded), 0)

    def tiles(self, window: int, halo: int, across: int | None = None) -> tuple[Tile, ...]:
        """The fewest tiles with windows of at most `window` a side, all of one size.

        `across` is the most that a window may be wide, if that is not `window` too.
        `window` is raised to what the model needs, and lowered so that no tile is a sliver.
        Raises `ValueError` if `window` leaves nothing of a tile between two halos.
        """
        height, width = self.padded
        rows = _spans(height, window, halo, self.needs)
        columns = _spans(width, across or window, halo, self.needs)
        picture = Box(0, self.height, 0, self.width)
        cut = (_tile(row, column, picture) for row in rows for column in columns)
        return tuple(tile for tile in cut if tile.core.height > 0 and tile.core.width > 0)

    def split(self, tile: Tile, halo: int) -> tuple[Tile, ...]:
        """`tile` as two tiles of half its core, cut across the longer side.

        The answer is `tile` alone if its core is a single pixel, or if the model's needs make
        the halves' windows no smaller.
        """
        core = tile.core
        if core.height >= core.width:
            middle = (core.top + core.bottom) // 2
            halves = (
                Box(core.top, middle, core.left, core.right),
                Box(middle, core.bottom, core.left, core.right),
            )
        else:
            middle = (core.left + core.right) // 2
            halves = (
                Box(core.top, core.bottom, core.left, middle),
                Box(core.top, core.bottom, middle, core.right),
            )
        if any(half.pixels == 0 for half in halves):
            return (tile,)
        parts = tuple(Tile(half, self._window(half, halo)) for half in halves)
        shrunk = all(part.window.pixels < tile.window.pixels for part in parts)
        return parts if shrunk else (tile,)

    def _window(self, core: Box, halo: int) -> Box:
        height, width = self.padded
        needs = self.needs
        tallest = _up(core.height + 2 * halo, needs.multiple_of)
        widest = _up(core.width + 2 * halo, needs.multiple_of)
        least = max(needs.minimum, max(tallest, widest) if needs.square else 0)
        top, bottom = _around(core.top, core.bottom, halo, least, height, needs.multiple_of)
        left, right = _around(core.left, core.right, halo, least, width, needs.multiple_of)
        return Box(top, bottom, left, right)


def work(canvas: Canvas, tiles: tuple[Tile, ...]) -> float:
    """Pixels that the model sees for these tiles, as a multiple of the padded picture's."""
    height, width = canvas.padded
    return sum(tile.window.pixels for tile in tiles) / (height * width)


@dataclass(frozen=True)
class _Span:
    """One side of a tile: the core's and the window's ends."""

    core: tuple[int, int]
    window: tuple[int, int]


def _spans(length: int, window: int, halo: int, needs: Needs) -> list[_Span]:
    """`length`, a multiple of `needs.multiple_of`, cut into windows of one size.

    Starts are multiples of `multiple_of`, so that what a model does to groups of pixels
    (pixel unshuffle, strides) falls on the same groups as in the whole picture.
    """
    unit = needs.multiple_of
    units = length // unit
    least = -(-needs.minimum // unit)
    overlap = -(-2 * halo // unit)
    size = max(window // unit, least, 1)
    if size >= units:
        return [_Span((0, length), (0, length))]
    if size <= overlap:
        raise ValueError(f"A window of {window} pixels keeps nothing between halos of {halo}.")
    count = 1 - (-(units - size) // (size - overlap))
    size = max(least, -(-(units + (count - 1) * overlap) // count))
    starts = [index * (units - size) // (count - 1) * unit for index in range(count)]
    ends = [start + size * unit for start in starts]
    cuts = [(end + start) // 2 for end, start in zip(ends, starts[1:], strict=False)]
    cores = zip([0, *cuts], [*cuts, length], strict=True)
    return [_Span(core, (s, e)) for core, s, e in zip(cores, starts, ends, strict=True)]


def _tile(row: _Span, column: _Span, picture: Box) -> Tile:
    core = Box(
        row.core[0],
        min(row.core[1], picture.bottom),
        column.core[0],
        min(column.core[1], picture.right),
    )
    return Tile(core, Box(*row.window, *column.window))


def _around(
    start: int, stop: int, halo: int, least: int, length: int, unit: int
) -> tuple[int, int]:
    """The ends of a window around a core, at least `least` long if `length` allows it."""
    first = max(0, start - halo) // unit * unit
    last = min(length, _up(stop + halo, unit))
    last = min(length, max(last, first + least))
    return max(0, min(first, last - least)) // unit * unit, last


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


METHODS = ["bicubic", "bilinear", "area", "nearest-exact"]
"""Ways to bring a model's result to another size than its own."""


@dataclass(frozen=True)
class ResultSize:
    """The size that the user wants; what is 0 follows from the rest, or from the model."""

    scale_by: float = 0.0
    width: int = 0
    height: int = 0
    method: str = METHODS[0]

    def of(self, height: int, width: int, scale: int) -> tuple[int, int]:
        """Height and width of the result for a picture of this size."""
        if self.width or self.height:
            factor = self.width / width if self.width else self.height / height
        else:
            factor = self.scale_by or scale
        rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
        return self.height or rows, self.width or columns
