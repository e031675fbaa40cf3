"""Operators that a device's back end lacks: each of them alone is computed on the CPU."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..xpu_runtime.log import LOGGER

_Result = TypeVar("_Result")

_MISSING: dict[str, set[str]] = {}
"""Names of operators by device type, as they turn up. Each was logged once."""


def complete(device: torch.device, call: Callable[[], _Result]) -> _Result:
    """`call()`, whose operators run on `device`; once more if the back end lacks one of them.

    torch says so by `NotImplementedError`. From then on the calls for this device are watched
    operator by operator. What is raised otherwise, and from the CPU, is passed on.
    """
    if device.type not in _MISSING:
        try:
            return call()
        except NotImplementedError:
            if device.type == "cpu":
                raise
    with _watched(_MISSING.setdefault(device.type, set()), device):
        return call()


def _watched(missing: set[str], device: torch.device) -> Any:
    # torch imports this module on demand; the host may not have done so yet.
    from torch.utils._python_dispatch import TorchDispatchMode

    class _Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            # In inference mode composite operators arrive whole; one part may be what is missing.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
            name = str(func)
            if name not in missing:
                try:
                    return func(*args, **kwargs)
                except NotImplementedError:
                    result = _on_the_cpu(func, args, kwargs, device)
                missing.add(name)
                LOGGER.warning(
                    "%s has no %s in this torch: it is computed on the CPU.", device, name
                )
                return result
            return _on_the_cpu(func, args, kwargs, device)

    return _Watch()


def _on_the_cpu(func: Any, args: Any, kwargs: Any, device: torch.device) -> Any:
    """What `func` gives, computed on the CPU; arguments that it writes to are written to."""
    from torch.utils._pytree import tree_map

    copies: list[tuple[Tensor, Tensor]] = []

    def away(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu") if value.type == device.type else value
        if not isinstance(value, Tensor) or value.device.type != device.type:
            return value
        copies.append((value, value.to("cpu")))
        return copies[-1][1]

    def back(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.device.type != "cpu":
            return value
        for original, copied in copies:
            if value is copied:
                return original.copy_(copied) if func._schema.is_mutable else original
        return value.to(device)

    return tree_map(back, func(*tree_map(away, args), **tree_map(away, kwargs)))
