"""THE table of preprocessors. Loading it imports no network's library."""

import copyreg

from .method import Method
from .networks import (
    anyline,
    depth_anything,
    dwpose,
    hed,
    leres,
    lineart,
    lineart_anime,
    manga_line,
    midas,
    mlsd,
    normalbae,
    openpose,
    pidinet,
    sam,
    teed,
    zoe,
)
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
    anyline.METHODS,
    depth_anything.METHODS,
    dwpose.METHODS,
    hed.METHODS,
    leres.METHODS,
    lineart.METHODS,
    lineart_anime.METHODS,
    manga_line.METHODS,
    midas.METHODS,
    mlsd.METHODS,
    normalbae.METHODS,
    openpose.METHODS,
    pidinet.METHODS,
    sam.METHODS,
    teed.METHODS,
    zoe.METHODS,
)

METHODS: dict[str, Method] = {method.name: method for family in _FAMILIES for method in family}
"""By name."""


def find_method(name: str) -> Method:
    """The method of this name. Raises `KeyError`."""
    return METHODS[name]


# A method crosses to a worker by its name: it is made of functions.
copyreg.pickle(Method, lambda method: (find_method, (method.name,)))
