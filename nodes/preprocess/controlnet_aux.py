"""The one way to the package controlnet-aux: its networks, and nothing else of it."""

import importlib
from typing import Any


def network_class(target: str) -> Any:
    """What `target`, "module:name" of the package controlnet-aux, names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
