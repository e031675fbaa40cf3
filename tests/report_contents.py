"""What the report may hold: every key of its JSON, and what stands there. Anything else fails."""

import re
from collections.abc import Iterator
from typing import Any

_WORDS = r"[\w.,:;+()/'\"~*@=<>&%#|\[\]{}? -]*"
"""Plain text without line breaks; what paths may look like is another test's matter."""

_SIZE = r"-?\d+"
_YES = "True|False"
_MAYBE = f"{_YES}|None"

ALLOWED: dict[str, str] = {
    r"software\.(extension|comfyui)": r"v?[\w.+-]+",
    r"software\.(python|system|torch|ipex)": _WORDS,
    r"software\.kernel_drivers\[\]": r"(renderD\d+ \w*|dxg \(WSL\))(, which[ a-z]+)?",
    r"software\.libraries\[\]": r"lib[\w.+-]+",
    r"arguments\.\w+": r"[\w.,:;*@+ -]*",
    r"environment\.\w+": r"[\w.,:;*@=+%() -]{0,120}",
    r"primary\.(chosen|answered)": r"(cpu|cuda|xpu)(:\d+)?",
    r"primary\.because": r"[\w.,:;=@<> ()-]*",
    r"devices\[\]\.name": r"(cpu|cuda:\d+|xpu:\d+)",
    r"devices\[\]\.stable_name": r"(cpu|(cuda|xpu)(:\d+|@[\w-]+))",
    r"devices\[\]\.(label|driver)": r"[\w.,+()\[\] -]*",
    r"devices\[\]\.capabilities\.(fp16|bf16|fp8_storage)": _YES,
    r"devices\[\]\.capabilities\.(fp64|integrated|driver_bf16)": _MAYBE,
    r"devices\[\]\.capabilities\.units": r"(\d+ \w+)?",
    r"devices\[\]\.memory\.reading\.(total|reserved|active)": _SIZE,
    r"devices\[\]\.memory\.reading\.(driver_free|system_available)": rf"{_SIZE}|None",
    r"devices\[\]\.memory\.free\.(total|cached)": _SIZE,
    r"devices\[\]\.memory\.free\.source": "driver|system|allocator",
    r"devices\[\]\.memory\.driver_silent": f"None|{_WORDS}",
    r"devices\[\]\.memory(\.allocation)?": "None",
    r"devices\[\]\.memory\.allocation\.largest": _SIZE,
    r"devices\[\]\.memory\.allocation\.source": r"[\w, ]+",
    r"loaded\[\]\.name": r"\w+",
    r"loaded\[\]\.device": r"(cpu|cuda:\d+|xpu:\d+)",
    r"loaded\[\]\.(loaded|size)": _SIZE,
    r"seams": "None",
    r"seams\[\]\.seam": r"[\w-]+",
    r"seams\[\]\.target": r"[\w.:\[\]]+",
    r"seams\[\]\.state": r"[a-z ]+",
    r"seams\[\]\.(detail|reason)": _WORDS,
    # Any part may be unreadable, with the error's first line.
    r".*\.why": _WORDS,
}
"""Regular expressions of places, and of what may stand there."""


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a JSON document with its place: ("devices[].name", "cpu")."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part, f"{place}[]")
    else:
        yield place, str(value)


def unexpected(document: Any) -> list[str]:
    """Places, and what stands there, that `ALLOWED` does not know."""
    return [
        f"{place}: {value}"
        for place, value in leaves(document)
        if not any(
            re.fullmatch(where, place) and re.fullmatch(what, value, re.ASCII)
            for where, what in ALLOWED.items()
        )
    ]
