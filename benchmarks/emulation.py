"""Telling an emulated XPU from a real one, and reading what only it can count."""

import importlib
from collections.abc import Callable
from typing import Any

EMULATOR = "xpu_emulator"


def is_emulated(device: Any) -> bool:
    """Whether `device` is a card of `tests/xpu_emulator`.

    Its properties say so: they are no object of torch's own, but one of the emulator's.
    """
    import torch

    if device.type != "xpu":
        return False
    kind = type(torch.xpu.get_device_properties(device))
    return kind.__module__.partition(".")[0] == EMULATOR


def counted(device: Any, call: Callable[[], Any]) -> dict[str, int]:
    """What one call did on an emulated card: kernels, allocations, copies by direction."""
    control = importlib.import_module(EMULATOR).current().devices[device.index or 0]
    before = _flat(control.counters())
    call()
    after = _flat(control.counters())
    return {name: after[name] - before[name] for name in after}


def _flat(counters: dict[str, Any]) -> dict[str, int]:
    flat: dict[str, int] = {}
    for name, value in counters.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        flat.update({f"{name} {part}".strip(): int(number) for part, number in parts})
    return flat
