"""IPEX Optimize: models run by what was measured to be faster and correct. Knows no node."""

from .model import Optimized, optimize
from .wishes import BACKENDS, COMPILES, DTYPES, MODES, SWITCH, Wishes

__all__ = [
    "BACKENDS",
    "COMPILES",
    "DTYPES",
    "MODES",
    "SWITCH",
    "Optimized",
    "Wishes",
    "optimize",
]
