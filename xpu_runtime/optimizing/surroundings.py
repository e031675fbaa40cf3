"""What can be done here: compilers, graphs and IPEX, each with the reason where it cannot."""

import functools
import importlib.util
import os
import shutil
import sys
from typing import Any

import torch
from torch import nn

from .. import host
from ..ipex import PACKAGE, installed_version, mismatch
from .blocks import residual_blocks
from .layout import convolutions
from .plan import Facts
from .step_graph import no_graphs

_COMPILERS = ("c++", "g++", "clang++", "cl")


def facts_of(network: nn.Module, device: torch.device) -> Facts:
    """What a plan for `network` on `device` depends on."""
    norms = [one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    return Facts(
        device.type,
        len(convolutions(network)),
        len(norms),
        residual_blocks=bool(residual_blocks(network)),
        channels_last=host.forces_channels_last(),
        no_compiler=no_compiler(device),
        no_graphs=no_graphs(device),
        no_ipex=no_ipex(),
    )


def no_compiler(device: torch.device) -> str:
    """Why torch.compile makes no code for a device; "" if it does, as far as can be told."""
    if sys.version_info[:2] == (3, 13) and torch.__version__ < "2.6":
        return f"torch {torch.__version__} compiles nothing under Python 3.13"
    named = os.environ.get("CXX", "")
    if not any(shutil.which(one) for one in (named, *_COMPILERS) if one):
        return "there is no C++ compiler, which torch.compile needs"
    if device.type == "cpu":
        return ""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return "" if _has_triton(device.type) else f"Triton has no back end for {device.type} here"


@functools.cache
def _has_triton(kind: str) -> bool:
    """Whether the installed Triton says that it serves a kind of device."""
    from triton.backends import backends

    names = {"cuda": ("nvidia", "amd"), "xpu": ("intel",)}.get(kind, ())
    return any(name in backends and backends[name].driver.is_active() for name in names)


def no_ipex() -> str:
    """Why IPEX cannot be used; "" if it can."""
    if importlib.util.find_spec(PACKAGE) is None and PACKAGE not in sys.modules:
        return "it is not installed, and not needed"
    # None stands for an import that this extension has blocked.
    if sys.modules.get(PACKAGE, ...) is None:
        return mismatch(installed_version(), torch.__version__) or "its import is blocked"
    return mismatch(installed_version(), torch.__version__) or ""


def ipex() -> Any:
    """IPEX itself. Call it only where `no_ipex()` is ""."""
    import intel_extension_for_pytorch

    return intel_extension_for_pytorch
