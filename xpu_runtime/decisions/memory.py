"""Total and free memory, and what is given back, for each device."""

from collections.abc import Callable
from typing import Any

from .. import host
from ..memory import MemoryReader
from .primary import is_xpu


def free_memory(reader: MemoryReader) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`get_free_memory` that sees other programs and the machine's own memory."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            device = host.primary_device() if dev is None else dev
            if not is_xpu(device):
                return original(dev, torch_free_too)
            free = reader.free(device)
            return (free.total, free.cached) if torch_free_too else free.total

        return get_free_memory

    return factory


def unload_all_models(original: Callable[..., Any]) -> Callable[..., Any]:
    """Unload from every device that holds a model, not only from the host's own."""

    def replacement() -> None:
        original()
        for device in host.loaded_devices():
            host.free_everything_on(device)

    return replacement
