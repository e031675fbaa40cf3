"""Preprocessors that run in a worker, with networks of the worker's own."""

from typing import Any

import torch

from ...xpu_runtime.placement import There
from ...xpu_runtime.workers import Resident
from .catalogue import METHODS
from .loaded import Find
from .method import Method


def held(method: Method, place: There, precision: str, find: Find) -> Resident:
    """The preprocessor in the worker, which holds its network; its weights are read now."""
    resident = Resident(place.worker, _holding, method.name, place.device, precision, find)
    place.worker.call(_is_there, resident)
    return resident


def applied(method: Method, place: There, precision: str, find: Find, *arguments: Any) -> Any:
    """What `preprocessor.apply` answers in the worker to `arguments`."""
    return place.worker.call(_apply_new, method.name, place.device, precision, find, *arguments)


def _new(name: str, device: torch.device, precision: str, find: Find) -> Any:
    from .preprocessor import Preprocessor

    return Preprocessor(METHODS[name], device, precision, find)


def _holding(name: str, device: torch.device, precision: str, find: Find) -> Any:
    from .preprocessor import holding

    return holding(_new(name, device, precision, find))


def _is_there(preprocessor: Any) -> bool:
    return preprocessor is not None


def _apply_new(name: str, device: torch.device, precision: str, find: Find, *arguments: Any) -> Any:
    from .preprocessor import apply

    return apply(_new(name, device, precision, find), *arguments)
