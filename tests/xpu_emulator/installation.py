"""Turn the torch of this process into one with emulated XPUs, or say why not."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from . import build, torch_xpu
from .control import EmulatedXpu
from .devices import DeviceRequest, Options, visible_devices

_OLDEST_TORCH = (2, 8)


class InstallError(RuntimeError):
    """This torch, or this process, cannot get an emulated XPU."""


def check_torch(beside_cuda: bool = False) -> None:
    """Raise InstallError when this torch cannot be given an emulated XPU."""
    version = str(torch.__version__)
    if torch._C._has_xpu or getattr(torch.version, "xpu", None):
        raise InstallError(
            f"torch {version} is built for real XPUs, which the emulated one would shadow. Use a "
            "torch for the CPU, in an environment of its own."
        )
    if torch.cuda.is_available() and not beside_cuda:
        raise InstallError(
            "This process sees a CUDA GPU, and torch supports one kind of accelerator at a time. "
            "Set CUDA_VISIBLE_DEVICES to an empty string, or use a torch for the CPU."
        )
    if torch.backends.mps.is_available():
        raise InstallError("torch has an MPS accelerator already, and it supports only one.")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_TORCH:
        raise InstallError(f"torch {version} is too old: the emulated XPU needs 2.8 or later.")


def unchecked_ops() -> list[str]:
    """Return the operators that torch exempts from its same-device check.

    They are marked in native_functions.yaml, which comes with torch as part of
    torchgen. Raises InstallError when it is missing.
    """
    spec = importlib.util.find_spec("torchgen")
    if spec is None or spec.origin is None:
        raise InstallError("torchgen, which is part of torch, is missing. Reinstall torch.")
    table = Path(spec.origin).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    names: list[str] = []
    current = ""
    for line in table.read_text(encoding="utf-8").splitlines():
        match = re.match(r"- func: ([\w.]+)\(", line)
        if match:
            current = match[1]
        elif re.match(r"\s+device_check: NoCheck", line):
            names.append(f"aten::{current}")
    return names


def install_into_torch(
    devices: Iterable[DeviceRequest], options: Options | None = None, beside_cuda: bool = False
) -> EmulatedXpu:
    """Do the work of xpu_emulator.install; see there."""
    check_torch(beside_cuda)
    specs = visible_devices(devices)
    library = build.load(str(torch.__version__))
    library.register_hooks(beside_cuda)
    library.set_unchecked_ops(unchecked_ops())
    emulated = EmulatedXpu(library)
    if not beside_cuda:
        torch_xpu.hide_cuda()
        torch_xpu.announce_xpu()
        torch_xpu.become_the_accelerator(library)
    torch_xpu.install_functions(library, initialise=lambda: None)
    emulated.configure(specs, options)
    return emulated
