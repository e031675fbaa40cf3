"""IPEX Optimize: models run by what was measured to be faster and correct. Knows no node."""

from typing import Any

from .settings import BACKENDS, COMPILES, DTYPES, MODES, SWITCH, OptimizeSettings

__all__ = ["BACKENDS", "COMPILES", "DTYPES", "MODES", "SWITCH", "OptimizeSettings", "optimize"]


def optimize(model: Any, wishes: OptimizeSettings, size: tuple[int, int, int] | None = None) -> Any:
    """`model.optimize`: a clone of a ModelPatcher whose steps run faster where that is measured."""
    # Nodes are listed without torch.
    from . import model as models

    return models.optimize(model, wishes, size)
