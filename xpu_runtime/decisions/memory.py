"""Total and free memory, and what is given back, for each device."""

from collections.abc import Callable
from typing import Any

from .. import errors, host
from ..log import LOGGER
from ..memory import MemoryReader
from .primary import asking_about, is_xpu, kind_of


def total_memory(reader: MemoryReader) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`get_total_memory` from the back end of the device that is asked about."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def get_total_memory(dev: Any = None, torch_total_too: bool = False) -> Any:
            device = host.primary_device() if dev is None else dev
            if not is_xpu(device):
                with asking_about(kind_of(device)):
                    return original(dev, torch_total_too)
            reading = reader.read(device)
            return (reading.total, reading.reserved) if torch_total_too else reading.total

        return get_total_memory

    return factory


def free_memory(reader: MemoryReader) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`get_free_memory` that sees other programs and the machine's own memory."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            device = host.primary_device() if dev is None else dev
            if not is_xpu(device):
                with asking_about(kind_of(device)):
                    return original(dev, torch_free_too)
            free = reader.free(device)
            return (free.total, free.cached) if torch_free_too else free.total

        return get_free_memory

    return factory


def unload_all_models(original: Callable[..., Any]) -> Callable[..., Any]:
    """Unload from every device that holds a model, not only from the host's own.

    What is on a lost card cannot be brought back, and a driver that is out of memory may refuse
    the copies. The thread that runs prompts unloads between them, and must not die of it.
    """

    def replacement() -> None:
        _unless_refused(original)
        for device in host.loaded_devices():
            _unless_refused(host.free_everything_on, device)

    return replacement


def soft_empty_cache(original: Callable[..., Any]) -> Callable[..., Any]:
    """Give back the cache of every back end that is in use, not only of the host's own.

    After a card was lost, emptying its cache raises; the host calls this between prompts, in
    the thread that runs them, which must not die of it: the error of the prompt itself says
    what happened.
    """

    def replacement(force: bool = False) -> None:
        own = host.primary_device().type
        _unless_lost(original, force)
        for kind in ("cuda", "xpu"):
            if kind != own:
                _unless_lost(_empty_if_used, kind)

    return replacement


def _empty_if_used(kind: str) -> None:
    import torch

    backend = getattr(torch, kind)
    if backend.is_initialized():
        backend.empty_cache()


def _unless_refused(unload: Callable[..., Any], *arguments: Any) -> None:
    """Unload; once more after the driver refused a copy: what did move has made room by then."""
    for last in (False, True):
        try:
            unload(*arguments)
            return
        except RuntimeError as error:
            host.forget_unloaded()
            if errors.is_device_lost(error):
                _say_lost()
                return
            if not errors.is_out_of_memory(error):
                raise
            if last:
                LOGGER.error("comfyui-ipex: models stay on the card. The driver said: %s", error)


def _unless_lost(call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except RuntimeError as error:
        if not errors.is_device_lost(error):
            raise
        _say_lost()


def _say_lost() -> None:
    LOGGER.error("comfyui-ipex: memory was not given back: %s", errors.DEVICE_LOST_MESSAGE)
