"""THE table of preprocessors. Loading it imports no network's library."""

from .method import Method
from .plain import canny, colour, inpaint, lines, shuffle, tile

_FAMILIES = (
    # Without weights.
    canny.METHODS,
    colour.METHODS,
    inpaint.METHODS,
    lines.METHODS,
    shuffle.METHODS,
    tile.METHODS,
    # Networks: one line a module of networks/, by the alphabet.
)

METHODS: dict[str, Method] = {method.name: method for family in _FAMILIES for method in family}
"""By name."""
