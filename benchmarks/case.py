"""What is measured: suites of cases, as data. Nothing here imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

COUNTED = "counted"
"""Stands for the floating point operations that torch's own counter finds in a call."""

GPU_DTYPE = ("fp16",)
"""What a case computes in on a GPU if nobody asks for something else."""

NO_DTYPE = ("-",)
"""Of a case that has no number format of its own."""


@dataclass(frozen=True)
class CaseSettings:
    device: "torch.device"
    dtype: str
    """fp32, fp16, bf16, or "-"."""
    quick: bool = False
    """Small sizes and little time."""
    tree: Path | None = None
    """The ComfyUI tree whose modules this process has imported, if it has."""
    emulated: bool = False
    """The device is an emulated XPU, whose speed says nothing."""


@dataclass(frozen=True)
class Side:
    name: str
    call: Callable[[], Any]
    self_timed: bool = False
    """`call` answers the seconds itself: what it does cannot be called back to back."""


@dataclass(frozen=True)
class Trial:
    """A case made ready on a device."""

    ours: Side
    against: Side | None = None
    """Measured in turns with `ours`; the ratio is its time over ours, 2.0 being twice as fast."""
    flops: float | str | None = None
    """Floating point operations of one call of `ours`, or COUNTED."""
    computes_in: str = ""
    """The number format whose limit counts, where that is not the settings'."""
    moved: float | None = None
    """Bytes that one call has to read and write at least."""
    crossed: float | None = None
    """Bytes that one call takes across the bus, whose limit nobody tells."""
    outcome: Callable[[], Any] | None = None
    """What is compared with `expected`; the result of `ours` if there is none."""
    expected: Callable[[], Any] | None = None
    """The same, computed in fp32 or fp64 on the CPU."""
    differ: Callable[[Any, Any], float] | None = None
    """How far an outcome is from what was expected; the relative error if there is none."""
    facts: Callable[[], Mapping[str, Any]] | None = None
    """Counts and other figures, asked after the timing. Where that fails, the times stand."""
    keep: tuple[Any, ...] = field(default=(), repr=False)
    """What must stay alive as long as the trial."""


@dataclass(frozen=True)
class Case:
    name: str
    measures: str
    """One plain sentence."""
    make: Callable[[CaseSettings], Trial]
    dtypes: tuple[str, ...] = GPU_DTYPE
    quick: bool = False
    """Whether `--quick` runs it."""
    gpu_only: bool = False
    """Whether it says nothing on a CPU, or takes too long there unless it is named."""
    sweep: str = ""
    """Cases of one sweep are run in order until one runs out of memory or of time."""
    error_unit: str = "relative"
    batch: int = 0
    """How many pictures one call makes, for sweeps; 0: it makes none."""


@dataclass(frozen=True)
class BenchmarkSuite:
    name: str
    title: str
    module: str
    """The module below `suites/`, which has a function `cases() -> list[Case]`."""
    host: bool = False
    """Whether its cases run ComfyUI's own modules in their process."""
    group: str = ""
    """Another name under which it is chosen, together with others."""
    short: bool = False
    """Whether the node runs it: needs torch alone, and no weights."""
