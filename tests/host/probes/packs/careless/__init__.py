"""A pack that puts its own function in the place of another one and asks nobody."""

from typing import Any

import comfy.model_management as management

PLENTY = 8 << 30


def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
    """Always plenty."""
    return (PLENTY, 0) if torch_free_too else PLENTY


management.get_free_memory = get_free_memory

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
