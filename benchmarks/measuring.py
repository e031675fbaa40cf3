"""Time and memory of calls on one device, and the host's modules in this process."""

import ctypes
import datetime
import os
import platform
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20


class Meter:
    """Times calls and measures the memory that they take."""

    def __init__(self, device: Any) -> None:
        import torch

        self.backend = None if device.type == "cpu" else getattr(torch, device.type)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.backend is not None:
            self.backend.synchronize()

    def peak(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """MiB that `call` took at most beyond what was held, and its result."""
        if self.backend is not None:
            self.backend.empty_cache()
            held = self.backend.memory_allocated()
            self.backend.reset_peak_memory_stats()
            result = call()
            self.synchronize()
            return (self.backend.max_memory_allocated() - held) / MIB, result
        # What earlier calls left in the allocator would hide what this one takes.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident size
        held = _status("VmRSS")
        result = call()
        return (_status("VmHWM") - held) / MIB, result

    def best(self, call: Callable[[], Any], repeats: int) -> float:
        """Seconds of the fastest of `repeats` calls."""
        seconds = []
        for _ in range(repeats):
            self.synchronize()
            began = time.perf_counter()
            call()
            self.synchronize()
            seconds.append(time.perf_counter() - began)
        return min(seconds)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def start_host(tree: Path, cpu: bool) -> None:
    """Make the host's modules and this extension's importable."""
    sys.path.insert(0, str(tree))
    package = types.ModuleType("comfyui_ipex")
    package.__path__ = [str(REPOSITORY)]
    sys.modules["comfyui_ipex"] = package
    sys.argv = ["main.py", *(["--cpu"] if cpu else [])]
    import comfy.options

    comfy.options.enable_args_parsing()


def heading(device: Any, program: str, arguments: list[str]) -> list[str]:
    """Lines that say when, with what and how a table was made."""
    import torch

    names: dict[str, Callable[[], str]] = {
        "cuda": lambda: torch.cuda.get_device_name(device),
        "xpu": lambda: torch.xpu.get_device_name(device),
        "cpu": lambda: f"{platform.machine()}, {os.cpu_count()} cores",
    }
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    return [
        f"{today}, torch {torch.__version__}, {device} ({names[device.type]()}), "
        f"{torch.get_num_threads()} CPU threads",
        "",
        f"`{program} {' '.join(arguments)}`",
        "",
    ]
