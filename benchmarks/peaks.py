"""The most that a device can do: what its maker states, else what was seen of it here."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .meter import Meter

if TYPE_CHECKING:
    import torch

PROBES, PROBE_S = 5, 0.3
"""A limit is the best of so many runs at least, for so long at least."""

_T = 1e12
_G = 1e9

FLOPS = "flop/s"
BYTES = "B/s"


@dataclass(frozen=True)
class Peak:
    value: float
    source: str


@dataclass(frozen=True)
class Card:
    """What a maker states of a card."""

    words: tuple[str, ...]
    """All of them are in the name that the driver tells."""
    half: float
    """fp16 and bf16 on matrix units, without sparsity, in flop/s."""
    memory: float
    """Bandwidth in B/s."""
    source: str


_NVIDIA = "NVIDIA's data sheet"
# Intel states int8 operations a second; fp16 and bf16 on the same units are half of that.
_INTEL = "Intel's specifications (half of the int8 figure)"

CARDS: tuple[Card, ...] = (
    # https://www.nvidia.com/en-us/data-center/h200/ and .../h100/, SXM
    Card(("H200",), 989.5 * _T, 4800 * _G, _NVIDIA),
    Card(("H100", "HBM3"), 989.5 * _T, 3350 * _G, _NVIDIA),
    # https://www.intel.com/content/www/us/en/products/details/discrete-gpus/arc.html: 262, 229,
    # 233 and 203 TOPS
    Card(("Arc", "A770"), 131 * _T, 560 * _G, _INTEL),
    Card(("Arc", "A750"), 114.5 * _T, 512 * _G, _INTEL),
    Card(("Arc", "B580"), 116.5 * _T, 456 * _G, _INTEL),
    Card(("Arc", "B570"), 101.5 * _T, 380 * _G, _INTEL),
)


def stated(name: str) -> Card | None:
    """The card of this name, if its maker's figures are known here."""
    return next((card for card in CARDS if all(word in name for word in card.words)), None)


class Peaks:
    """The limits of one device; what is not stated is measured when it is first asked for."""

    def __init__(self, meter: Meter, name: str, quick: bool) -> None:
        self.meter = meter
        self.card = stated(name)
        self.quick = quick
        self.known: dict[str, Peak] = {}

    def of(self, unit: str, dtype: str) -> Peak:
        """The limit for `unit` (FLOPS or BYTES) when computing in `dtype`."""
        key = unit if unit == BYTES else f"{unit} {dtype}"
        if key not in self.known:
            self.known[key] = self._stated(unit, dtype) or self._seen(unit, dtype)
        return self.known[key]

    def _stated(self, unit: str, dtype: str) -> Peak | None:
        if self.card is None or (unit == FLOPS and dtype not in ("fp16", "bf16")):
            return None
        value = self.card.memory if unit == BYTES else self.card.half
        return Peak(value, self.card.source)

    def _seen(self, unit: str, dtype: str) -> Peak:
        """From the best run of what should come nearest to the limit."""
        import torch

        device = self.meter.device
        number = torch_dtype("fp32" if dtype == "-" else dtype)
        cpu = device.type == "cpu"
        if unit == BYTES:
            source = torch.ones((1 << 24) if cpu else (1 << 27), device=device)
            target = torch.empty_like(source)
            best = self._best(lambda: target.copy_(source))
            return Peak(2 * source.nbytes / best, "a copy measured here")
        side = (512 if self.quick else 1024) if cpu else 4096
        matrix = torch.randn(side, side, device=device).to(number)
        best = self._best(lambda: matrix @ matrix)
        return Peak(2 * side**3 / best, f"a matrix product of {side} measured here")

    def _best(self, call: Callable[[], Any]) -> float:
        seconds: list[float] = []
        ends = time.perf_counter() + PROBE_S
        while len(seconds) < PROBES or time.perf_counter() < ends:
            began = self.meter.clock()
            call()
            seconds.append(self.meter.clock() - began)
        return min(seconds)


def torch_dtype(name: str) -> "torch.dtype":
    """torch's number format of that name. Raises `KeyError` if there is none."""
    import torch

    formats = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return formats[name]
