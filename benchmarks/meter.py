"""Time and memory of calls on one device, and what only an emulated XPU can count."""

import ctypes
import importlib
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .case import Side
from .intervals import interval, steady

if TYPE_CHECKING:
    import torch

EMULATOR = "xpu_emulator"
_FORGET_PEAK = "5"  # for /proc/self/clear_refs


@dataclass(frozen=True)
class Pace:
    """How long measuring may take."""

    round_s: float
    """Each sample is the mean of calls that take so long together, or one longer call."""
    least_samples: int
    limit_s: float
    """After so long a case is over, whether its interval is narrow or not."""
    warm_s: float

    def hurried(self) -> "Pace":
        """For the batches of a sweep: there are many, and the largest take long."""
        return replace(self, least_samples=ENOUGH, limit_s=self.limit_s / 2, warm_s=self.warm_s / 2)


ENOUGH = 6
"""With fewer samples no interval is sure: long calls may take PATIENCE times the limit for them."""

PATIENCE = 20

CAREFUL = Pace(round_s=0.03, least_samples=8, limit_s=2.0, warm_s=1.0)
QUICK = Pace(round_s=0.01, least_samples=6, limit_s=1.0, warm_s=0.5)


class Meter:
    def __init__(self, device: "torch.device", pace: Pace = CAREFUL) -> None:
        import torch

        self.backend = None if device.type == "cpu" else getattr(torch, device.type)
        self.device = device
        self.pace = pace

    def synchronize(self) -> None:
        if self.backend is not None:
            self.backend.synchronize(self.device)

    def clock(self) -> float:
        """Seconds, read when the device has done all that it was told to do."""
        self.synchronize()
        return time.perf_counter()

    def peak(self, call: Callable[[], Any]) -> tuple[int, Any]:
        """Bytes that `call` took at most beyond what was held, and its result.

        On the CPU that is what the process grew by, as Linux counts it.
        """
        if self.backend is not None:
            self.backend.empty_cache()
            held = self.backend.memory_allocated(self.device)
            self.backend.reset_peak_memory_stats(self.device)
            result = call()
            self.synchronize()
            return int(self.backend.max_memory_allocated(self.device) - held), result
        # What earlier calls left in the allocator would hide what this one takes.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
        held = _status("VmRSS")
        result = call()
        return max(0, _status("VmHWM") - held), result

    def sampler(self, side: Side) -> Callable[[], float]:
        """What answers the seconds of one call, measured anew each time it is asked."""
        if side.self_timed:
            return side.call
        from torch.utils.benchmark import Timer

        # torch's own clock waits for CUDA in every version, for an XPU only in newer ones.
        timer = Timer("call()", globals={"call": side.call}, timer=self.clock)
        same = timeit.Timer(side.call, timer=self.clock)
        calls = 0

        def sample() -> float:
            nonlocal calls
            if calls:
                return same.timeit(calls) / calls
            # It calibrates itself anew each time, with ten times the calls that are needed.
            seconds = float(timer.blocked_autorange(min_run_time=self.pace.round_s).median)
            calls = max(1, round(self.pace.round_s / seconds))
            return seconds

        return sample

    def samples(self, side: Side) -> list[float]:
        """Seconds of one call, sampled until the interval of the median is narrow."""
        sample = self.sampler(side)
        self.warm([sample])
        found: list[float] = []
        began = time.perf_counter()
        while not self._enough(found, began, self.pace.limit_s):
            found.append(sample())
        return found

    def pairs(self, ours: Side, against: Side) -> list[tuple[float, float]]:
        """Seconds of (ours, against), in turns, until the interval of their ratio is narrow.

        Whatever else the machine does then hits both. Who goes first has the colder caches, so
        that alternates too.
        """
        samplers = [self.sampler(ours), self.sampler(against)]
        self.warm(samplers)
        found: list[tuple[float, float]] = []
        ratios: list[float] = []
        began = time.perf_counter()
        while not self._enough(ratios, began, 2 * self.pace.limit_s):
            turn = (0, 1) if len(found) % 2 else (1, 0)
            times = {side: samplers[side]() for side in turn}
            found.append((times[0], times[1]))
            ratios.append(times[1] / times[0])
        return found

    def warm(self, samplers: list[Callable[[], float]]) -> None:
        """Run until the times agree, or for as long as the pace allows."""
        seen: list[list[float]] = [[] for _ in samplers]
        ends = time.perf_counter() + self.pace.warm_s * len(samplers)
        while time.perf_counter() < ends and not all(steady(times) for times in seen):
            for sample, times in zip(samplers, seen, strict=True):
                times.append(sample())

    def _enough(self, found: list[float], began: float, limit_s: float) -> bool:
        taken = time.perf_counter() - began
        if taken >= limit_s and found:
            return len(found) >= ENOUGH or taken >= PATIENCE * limit_s
        return len(found) >= self.pace.least_samples and interval(found).narrow


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def is_emulated(device: "torch.device") -> bool:
    """Whether `device` is a card of `tests/xpu_emulator`.

    Its properties say so: they are no object of torch's own, but one of the emulator's.
    """
    import torch

    if device.type != "xpu":
        return False
    kind = type(torch.xpu.get_device_properties(device))
    return kind.__module__.partition(".")[0] == EMULATOR


def count_on_emulated_card(device: "torch.device", call: Callable[[], Any]) -> dict[str, int]:
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
