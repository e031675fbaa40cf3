"""What a run was made with and under: device, driver, torch, host, clocks, other load."""

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..xpu_runtime import VERSION
from ..xpu_runtime.readable import Unreadable, readable
from ..xpu_runtime.report import without_paths
from . import emulation

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


def told(read: Callable[[], Any]) -> Any:
    """What `read()` answers; None where it cannot be told."""
    answer = readable(read)
    return None if isinstance(answer, Unreadable) else answer


def of_process(device: Any, host: str | None, quick: bool) -> dict[str, Any]:
    """What stays the same in a bench process. `host` is ComfyUI's version if it is imported."""
    import torch

    return {
        "device": str(device),
        "name": without_paths(device_name(device)),
        "emulated": emulation.is_emulated(device),
        "memory_bytes": told(lambda: _memory(device)),
        "driver": told(lambda: driver(device)),
        "torch": str(torch.__version__),
        "extension": VERSION,
        "host": host,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cpu": told(cpu_name) or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": told(lambda: bool(torch.backends.cuda.matmul.allow_tf32)),
        "quick": quick,
        "environment": {name: os.environ[name] for name in DECIDING if name in os.environ},
    }


def load(device: Any) -> dict[str, Any]:
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
    found["used_by_others_bytes"] = told(lambda: _used_by_others(backend, device))
    for name, function in _TELEMETRY.items():
        found[name] = told(lambda f=function: int(getattr(backend, f)(device)))
    return found


def device_name(device: Any) -> str:
    """The name that the driver gives a card, or the CPU's."""
    if device.type == "cpu":
        return str(told(cpu_name) or platform.machine())
    return str(_backend(device).get_device_properties(device).name)


def cpu_name() -> str:
    """The CPU's model. Raises `OSError` or `LookupError` where Linux does not tell it."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    if found is None:
        raise LookupError("no model name")
    return found[1].strip()


def driver(device: Any) -> str:
    """The driver's version. Raises `OSError` or `AttributeError` where nobody tells it."""
    if device.type == "cpu":
        return ""
    if device.type == "xpu":
        return str(_backend(device).get_device_properties(device).driver_version)
    first = _NVIDIA_DRIVER.read_text(encoding="utf-8").splitlines()[0]
    found = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", first)
    return found[0] if found else first


def _backend(device: Any) -> Any:
    import torch

    return getattr(torch, device.type)


def _memory(device: Any) -> int:
    if device.type == "cpu":
        import psutil

        return int(psutil.virtual_memory().total)
    return int(_backend(device).get_device_properties(device).total_memory)


def _used_by_others(backend: Any, device: Any) -> int:
    free, total = backend.mem_get_info(device)
    return int(total - free - backend.memory_reserved(device))
