"""What a run was made with and under: device, driver, torch, host, clocks, other load."""

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from ..xpu_runtime import VERSION
from ..xpu_runtime.readable import Unreadable, readable
from ..xpu_runtime.report import without_paths
from .meter import is_emulated

if TYPE_CHECKING:
    import torch

_Answer = TypeVar("_Answer")

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

_TELEMETRY = {
    "clock_mhz": "clock_rate",
    "power_mw": "power_draw",
    "temperature_c": "temperature",
    "utilization_percent": "utilization",
}
"""torch asks NVIDIA's NVML if nvidia-ml-py is installed; of XPUs it tells them from 2.13 on."""

DECIDING = ("OMP_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "PYTORCH_ALLOC_CONF")
"""Environment variables that decide speed. Their values are numbers, or name no files."""


def value_or_none(read: Callable[[], _Answer]) -> _Answer | None:
    """What `read()` answers; None where it cannot be told."""
    answer = readable(read)
    return None if isinstance(answer, Unreadable) else answer


def of_process(device: "torch.device", host: str | None, quick: bool) -> dict[str, Any]:
    """What stays the same in a bench process. `host` is ComfyUI's version if it is imported."""
    import torch

    return {
        "device": str(device),
        "name": without_paths(device_name(device)),
        "emulated": is_emulated(device),
        "memory_bytes": value_or_none(lambda: _memory(device)),
        "driver": value_or_none(lambda: driver(device)),
        "torch": str(torch.__version__),
        "extension": VERSION,
        "host": host,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cpu": value_or_none(cpu_name) or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": value_or_none(lambda: bool(torch.backends.cuda.matmul.allow_tf32)),
        "quick": quick,
        "environment": {name: os.environ[name] for name in DECIDING if name in os.environ},
    }


def load(device: "torch.device") -> dict[str, Any]:
    """What changes: other load on the machine and the card, clocks and power where torch tells."""
    import psutil

    found: dict[str, Any] = {
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "cpu_percent": psutil.cpu_percent(0.2),
        "free_memory_bytes": int(psutil.virtual_memory().available),
    }
    if device.type == "cpu":
        return found
    backend = _backend(device)
    found["used_by_others_bytes"] = value_or_none(lambda: _used_by_others(backend, device))
    for name, function in _TELEMETRY.items():
        found[name] = value_or_none(lambda f=function: int(getattr(backend, f)(device)))
    return found


def device_name(device: "torch.device") -> str:
    """The name that the driver gives a card, or the CPU's."""
    if device.type == "cpu":
        return str(value_or_none(cpu_name) or platform.machine())
    return str(_backend(device).get_device_properties(device).name)


def cpu_name() -> str:
    """The CPU's model. Raises `OSError` or `LookupError` where Linux does not tell it."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    if found is None:
        raise LookupError("no model name")
    return found[1].strip()


def driver(device: "torch.device") -> str:
    """The driver's version. Raises `OSError` or `AttributeError` where nobody tells it."""
    if device.type == "cpu":
        return ""
    if device.type == "xpu":
        return str(_backend(device).get_device_properties(device).driver_version)
    first = _NVIDIA_DRIVER.read_text(encoding="utf-8").splitlines()[0]
    found = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", first)
    return found[0] if found else first


def _backend(device: "torch.device") -> ModuleType:
    import torch

    backend: ModuleType = getattr(torch, device.type)
    return backend


def _memory(device: "torch.device") -> int:
    if device.type == "cpu":
        import psutil

        return int(psutil.virtual_memory().total)
    return int(_backend(device).get_device_properties(device).total_memory)


def _used_by_others(backend: ModuleType, device: "torch.device") -> int:
    free, total = backend.mem_get_info(device)
    return int(total - free - backend.memory_reserved(device))
