"""A step measured with and without: what is faster and correct is kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .settings import FOUND, Variant

TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""By the dtype that the model computes in: the most that a result may differ from the one as
found, root mean square relative to root mean square. Twenty times what compiling a UNet of SD1.5's
size with random weights was seen to do (0.002 in fp16 on an H200)."""

MARGIN = 1.02
"""How much faster a way must be to be kept: repeated measurements differ by about 1 %."""

ROUNDS = 5
"""Timed calls of each way; 1 where a step takes long."""

LONG_STEP = 1.0
"""Seconds of a step that is timed once only."""


@dataclass(frozen=True)
class Tried:
    """What came of one way to run the step."""

    variant: Variant
    seconds: float
    """Of the fastest call; infinite if it could not run."""
    error: float = 0.0
    """Relative to the result as found."""
    preparing: float = 0.0
    """Seconds until it ran at full speed: compiling and recording."""
    problem: str = ""


@dataclass(frozen=True)
class Measurement:
    """What was measured for a size, and what is kept."""

    size: tuple[int, ...]
    """Of the model's input."""
    dtype: torch.dtype
    found: float
    """Seconds of a step as found; 0.0 if none was measured."""
    tried: tuple[Tried, ...]
    kept: Variant

    @property
    def lines(self) -> tuple[str, ...]:
        """In words, with the figures."""
        name = str(self.dtype).removeprefix("torch.")
        shape = "x".join(map(str, self.size))
        measured = f"{_ms(self.found)} a step as found" if self.found else "not measured"
        first = f"Input {shape}, {name}: {measured}; kept: {self.kept.name}."
        return (first, *(self._line(one) for one in self.tried))

    def _line(self, one: Tried) -> str:
        if one.problem:
            return f"  {one.variant.name}: not used: {one.problem}"
        ratio = self.found / one.seconds
        text = f"  {one.variant.name}: {_ms(one.seconds)} ({ratio:.2f}x), error {one.error:.1e}"
        text += f", ready after {one.preparing:.1f} s"
        if one.error > limit(self.dtype):
            return f"{text}: not used: differs by more than {limit(self.dtype):.0e}"
        return text if ratio >= MARGIN else f"{text}: not used: not faster"


def limit(dtype: torch.dtype) -> float:
    """The largest error of a model that computes in `dtype`."""
    return TOLERANCE.get(dtype, TOLERANCE[torch.float16])


def problem_of(error: Exception) -> str:
    """The first line of an error that says something, with its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no text"]
    # torch's compiler writes "backend='inductor' raised:", and the cause below.
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"{type(error).__name__}: {text[:200]}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def choose_fastest(found: float, tried: Sequence[Tried], dtype: torch.dtype) -> Variant:
    """The fastest way that is correct and faster than the one as found, or that one."""
    good = [one for one in tried if not one.problem and one.error <= limit(dtype)]
    best = min(good, key=lambda one: one.seconds, default=None)
    return best.variant if best is not None and found / best.seconds >= MARGIN else FOUND


def error_of(result: Tensor, reference: Tensor) -> float:
    """The difference of two results, root mean square, relative to the reference's; NaN is inf."""
    if result.shape != reference.shape:
        return float("inf")
    wanted = reference.float()
    difference = (result.float() - wanted).square().mean().sqrt()
    error = float(difference / wanted.square().mean().sqrt().clamp(min=1e-12))
    return error if error == error else float("inf")


def fastest(call: Callable[[], Any], device: torch.device, rounds: int) -> float:
    return min(timed(call, device)[0] for _ in range(rounds))


def timed(call: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds that a call took until the device was through with it, and its result."""
    synchronize(device)
    began = time.perf_counter()
    result = call()
    synchronize(device)
    return time.perf_counter() - began, result


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize(device)


def rounds_for(seconds: float) -> int:
    """How many timed calls a step of this length gets."""
    return 1 if seconds > LONG_STEP else ROUNDS
