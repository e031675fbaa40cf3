"""What runs here: versions, drivers, settings. Every part is read by itself."""

import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from . import VERSION, host, ipex
from .hardware import may_open
from .readable import Unreadable, readable
from .settings import SETTINGS

A_PATH = "(a path)"
"""Stands for a value that would tell where somebody's files are."""

HIDDEN = "(hidden)"
"""Stands for a value that may be a secret: by its variable's name, or because no setting that is
known looks like it."""

_SECRET = re.compile(r"TOKEN|SECRET|PASS|CREDENTIAL|AUTH|PRIVATE|(?:^|_|API)KEY(?:$|_)")
_PLAIN = re.compile(r"[\w.,:;*@=+%() -]{0,120}", re.ASCII)

# Whose environment variables decide what an XPU does.
_PREFIXES = (
    "COMFYUI_IPEX_",
    "CUDA_VISIBLE_DEVICES",
    "IPEX_",
    "NEO_",
    "NEOReadDebugKeys",
    "ONEAPI_",
    "PYTORCH_",
    "SYCL_",
    "TORCH_XPU_",
    "UR_",
    "ZE_",
)
_SETTINGS = frozenset(setting.name for setting in SETTINGS)

# Arguments of the host that say nothing about devices, memory or numbers.
_BESIDE_THE_POINT = frozenset({"auto_launch", "disable_auto_launch", "max_upload_size", "port"})
# Those that choose devices by a text; all other texts may name files or addresses.
_TEXTS = frozenset({"cuda_device", "oneapi_device_selector"})

# "libze_intel_gpu.so.1.6.33578": Level Zero, Unified Runtime, SYCL, the graphics compiler.
_LIBRARY = re.compile(r"/(lib(?:ze_|ur_|sycl|igc|igdfcl)[^/\n]*\.so[^/\s]*)$", re.MULTILINE)


@dataclass(frozen=True)
class Software:
    extension: str
    comfyui: str | Unreadable
    python: str
    system: str | Unreadable
    """The operating system, its kernel and C library; says so if it is WSL."""
    torch: str | Unreadable
    """torch's version and what it was built for."""
    ipex: str | Unreadable
    """Intel's extension for PyTorch: its version, whether torch fits it, whether it is imported."""
    kernel_drivers: tuple[str, ...] | Unreadable
    """The render nodes with their drivers: "renderD128 xe"."""
    libraries: tuple[str, ...] | Unreadable
    """File names of the Intel GPU libraries that this process has loaded."""


def software() -> Software:
    return Software(
        extension=VERSION,
        comfyui=readable(host.version),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=readable(_system),
        torch=readable(_torch),
        ipex=readable(_ipex),
        kernel_drivers=readable(render_nodes),
        libraries=readable(lambda: libraries(Path("/proc/self/maps").read_text())),
    )


def arguments(changed: Mapping[str, Any]) -> dict[str, str]:
    """Those of the host's `changed` arguments that matter, without paths and addresses."""
    told = {name: _told(name, value) for name, value in changed.items()}
    return {name: value for name, value in told.items() if value and name not in _BESIDE_THE_POINT}


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Our settings, and the variables that decide what an XPU does; paths are left out."""
    return {
        name: _publishable(name, value)
        for name, value in sorted(environ.items())
        if name in _SETTINGS or name.startswith(_PREFIXES)
    }


def _publishable(name: str, value: str) -> str:
    if _SECRET.search(name.upper()):
        return HIDDEN
    if "/" in value or "\\" in value or value.startswith("~"):
        return A_PATH
    return value if _PLAIN.fullmatch(value) else HIDDEN


def built_for(versions: Any) -> str:
    """What the torch of this `torch.version` was built for: "XPU (20250101)", "CUDA 13.0"."""
    names = {"xpu": "XPU ({})", "cuda": "CUDA {}", "hip": "ROCm {}"}
    found = {name: getattr(versions, name, None) for name in names}
    parts = [names[name].format(version) for name, version in found.items() if version]
    return " and ".join(parts) or "the CPU alone"


def ipex_state(version: str, torch: str, modules: Mapping[str, Any]) -> str:
    """Where an installed IPEX of `version` stands beside a `torch` of that version.

    IPEX is made for one minor version of torch, and ends the process beside another.
    """
    for_torch, this_torch = (".".join(text.split(".")[:2]) for text in (version, torch))
    fits = "fits this torch" if for_torch == this_torch else f"made for torch {for_torch}"
    if ipex.PACKAGE not in modules:
        return f"{version}, {fits}, not imported"
    return f"{version}, {fits}, {'blocked' if modules[ipex.PACKAGE] is None else 'imported'}"


def render_nodes(root: Path = Path("/"), may: Callable[[Path], bool] = may_open) -> tuple[str, ...]:
    """The render nodes below `root` with their kernel drivers, and whether they may be used."""
    found = []
    for node in sorted(root.glob("sys/class/drm/renderD*")):
        driver = (node / "device" / "driver").resolve().name
        allowed = "" if may(root / "dev/dri" / node.name) else ", which this user may not use"
        found.append(f"{node.name} {driver}{allowed}")
    if (root / "dev/dxg").exists():
        found.append("dxg (WSL)")
    return tuple(found)


def libraries(maps: str) -> tuple[str, ...]:
    """The file names of Intel's GPU libraries in the text of /proc/self/maps."""
    return tuple(sorted(set(_LIBRARY.findall(maps))))


def _told(name: str, value: Any) -> str:
    """How an argument's value is written; empty if it is not told."""
    if isinstance(value, str):
        return value if name in _TEXTS else ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping):
        parts = [_told("", part) for part in value]
        return ",".join(sorted(part for part in parts if part))
    return ""


def _system() -> str:
    names = [platform.system(), platform.release(), platform.machine()]
    library = " ".join(part for part in platform.libc_ver() if part)
    try:
        distribution = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        distribution = ""
    wsl = "under WSL" if "microsoft" in platform.release().lower() else ""
    return ", ".join(part for part in (" ".join(names), distribution, library, wsl) if part)


def _torch() -> str:
    import torch

    return f"{torch.__version__}, built for {built_for(torch.version)}"


def _ipex() -> str:
    import torch

    installed = ipex.installed_version()
    return ipex_state(installed, torch.__version__, sys.modules) if installed else "not installed"
