"""An emulated Intel XPU: real ``torch.device("xpu", i)`` tensors on host memory.

For a torch that has no XPU. README.md says what it shows and what it cannot.
Importing this package does not import torch; installing does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .devices import MAX_DEVICES, DeviceRequest, DeviceSpec, Options, device_spec, parse_size
from .profiles import PROFILES, DeviceProfile, profile_named

if TYPE_CHECKING:
    from .control import DeviceControl, EmulatedXpu

__all__ = [
    "MAX_DEVICES",
    "PROFILES",
    "DeviceControl",
    "DeviceProfile",
    "DeviceRequest",
    "DeviceSpec",
    "EmulatedXpu",
    "Options",
    "current",
    "device_spec",
    "install",
    "is_installed",
    "parse_size",
    "profile_named",
]

_current: EmulatedXpu | None = None


def __getattr__(name: str) -> object:
    # These need torch, which importing the package must not import.
    if name in ("DeviceControl", "EmulatedXpu"):
        from . import control

        return getattr(control, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install(
    devices: Iterable[DeviceRequest] = ("a770",),
    options: Options | None = None,
    *,
    beside_cuda: bool = False,
) -> EmulatedXpu:
    """Give this process emulated XPUs and return the hand on them.

    `devices` are names of profiles, profiles, or DeviceSpecs; 0 to 4 of them.
    Call it right after torch is imported for the first time. It cannot be undone,
    but ``current().configure([])`` leaves no device visible.

    With `beside_cuda` a CUDA GPU of this process stays what it is, and torch's one accelerator:
    XPU tensors compute, and what torch asks of "the" accelerator (autograd, pinned memory,
    ``torch.accelerator``, ``with stream``) goes to CUDA.

    Raises InstallError (a RuntimeError) when torch has a real accelerator, is too
    old, or has already settled that it has none; BuildError when the C++ part
    cannot be compiled; RuntimeError when it is installed already.
    """
    global _current
    if _current is not None:
        raise RuntimeError("The emulated XPU is installed. Use xpu_emulator.current().configure().")
    from .installation import install_into_torch

    _current = install_into_torch(devices, options, beside_cuda)
    return _current


def is_installed() -> bool:
    """Return whether install() has succeeded in this process."""
    return _current is not None


def current() -> EmulatedXpu:
    """Return the emulated cards of this process; raises RuntimeError before install()."""
    if _current is None:
        raise RuntimeError("No emulated XPU in this process: call xpu_emulator.install() first.")
    return _current
