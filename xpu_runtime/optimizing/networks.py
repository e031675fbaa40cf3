"""IPEX Optimize for networks that nobody patches: upscalers and preprocessors.

They are torch's own layers with fixed weights, so what was kept is applied to them for good. A
network that is to stay as it was is copied before.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import host
from . import trial
from .folding import fold
from .layout import convolutions, is_channels_last, lay_out
from .plan import GPUS, NOT_MEASURED
from .settings import AUTO, NATIVE, OFF, OptimizeSettings, Skipped, Variant
from .steps import TROUBLE
from .surroundings import ipex, no_compiler, no_ipex
from .trial import Tried


@dataclass(frozen=True)
class Sample:
    """Test pictures for one call of a network."""

    side: int
    """Pixels on each side."""
    count: int = 1

    @property
    def name(self) -> str:
        """In words: "64x64", "16 of 512x512"."""
        size = f"{self.side}x{self.side}"
        return size if self.count == 1 else f"{self.count} of {size}"


CallNetwork = Callable[[nn.Module, Sample], Tensor]
"""What a network makes of test pictures."""

ON_A_WORKER = "It runs on a worker, where nothing is measured: it stays as it was found."
"""The report for what was placed on another process's device."""

UNCHANGED = "Nothing applies: the network stays as it was found."

SAMPLES = (Sample(64), Sample(192))
"""What is kept is faster at all of them, since tiles come in all sizes."""


@dataclass(frozen=True)
class Way:
    name: str
    apply: Callable[[nn.Module], Any]


@dataclass(frozen=True)
class NetworkReport:
    lines: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    @property
    def text(self) -> str:
        return "\n".join([*self.lines, *(f"Skipped {one.text}." for one in self.skipped)])


def optimize(
    network: nn.Module,
    device: torch.device,
    wishes: OptimizeSettings,
    run: CallNetwork,
    samples: Sequence[Sample] = SAMPLES,
) -> NetworkReport:
    """Change `network`, which is on `device` in its final dtype, for good where that pays.

    Raises what the network itself raises, and what an interrupt raises.
    """
    skipped: list[Skipped] = []
    lines = [f"On {device}:"]
    before = run(network, samples[0])
    if wishes.fold:
        lines += _folded(network, before, run, samples[0], skipped)
    ways = _ways(network, device, wishes, skipped)
    if ways and not wishes.verify:
        lines.append(_unmeasured(network, ways, run, samples[0], skipped))
    elif ways:
        lines += _kept(network, device, ways, run, samples)
    return NetworkReport(tuple(lines), tuple(skipped))


def _unmeasured(
    network: nn.Module, ways: list[Way], run: CallNetwork, sample: Sample, skipped: list[Skipped]
) -> str:
    """Apply each way with which a copy runs, one upon the other."""
    applied = []
    for way in ways:
        host.check_interrupted()
        trying = copy.deepcopy(network)
        try:
            way.apply(trying)
            run(trying, sample)
        except TROUBLE as error:
            skipped.append(Skipped(way.name, trial.problem_of(error)))
            continue
        way.apply(network)
        applied.append(way.name)
    return f"Applied without measuring: {', '.join(applied)}." if applied else UNCHANGED


def _dtype(network: nn.Module) -> torch.dtype:
    return next((one.dtype for one in network.parameters()), torch.float32)


def _folded(
    network: nn.Module, before: Tensor, run: CallNetwork, sample: Sample, skipped: list[Skipped]
) -> list[str]:
    trying = copy.deepcopy(network)
    count = fold(trying)
    if not count:
        skipped.append(Skipped("fold", "no BatchNorm follows a convolution alone"))
        return []
    error = trial.error_of(run(trying, sample), before)
    if error > trial.limit(_dtype(network)):
        skipped.append(Skipped("fold", f"the result would differ by {error:.1e}"))
        return []
    fold(network)
    return [f"Folded {count} BatchNorms into the convolutions before them, error {error:.1e}."]


def _ways(
    network: nn.Module, device: torch.device, wishes: OptimizeSettings, skipped: list[Skipped]
) -> list[Way]:
    ways = []
    if wishes.channels_last != OFF:
        why = _no_layout(network, wishes)
        if why:
            skipped.append(Skipped("channels_last", why))
        else:
            ways.append(Way("channels_last", lambda one: lay_out(one, True)))
    if wishes.backend != NATIVE:
        why = _no_ipex_here(network, device, wishes)
        if why:
            skipped.append(Skipped("ipex", why))
        else:
            ways.insert(0, Way("ipex without prepacking", _through_ipex))
    if wishes.compile != OFF:
        why = _no_compiling(device, wishes)
        if why:
            skipped.append(Skipped("compile", why))
        else:
            ways.append(Way("compiled", lambda one: one.compile(dynamic=True)))
    return ways


def _no_layout(network: nn.Module, wishes: OptimizeSettings) -> str:
    if not convolutions(network):
        return "the network has no 2-d convolution"
    if is_channels_last(network):
        return "the weights are in this layout already"
    return NOT_MEASURED if wishes.channels_last == AUTO and not wishes.verify else ""


def _no_ipex_here(network: nn.Module, device: torch.device, wishes: OptimizeSettings) -> str:
    if no_ipex():
        return no_ipex()
    if device.type != "cpu":
        return "on a GPU it does nothing that is not done natively"
    if _dtype(network) != torch.float32:
        return "the network computes in half precision, which IPEX takes under autocast only"
    return NOT_MEASURED if wishes.backend == AUTO and not wishes.verify else ""


def _no_compiling(device: torch.device, wishes: OptimizeSettings) -> str:
    if wishes.compile == AUTO and not wishes.verify:
        return NOT_MEASURED
    if wishes.compile == AUTO and device.type not in GPUS:
        return "on a CPU it takes minutes and rarely pays; 'full' tries it"
    return no_compiler(device)


def _through_ipex(network: nn.Module) -> None:
    # Weights packed for one size are many times slower for others: tiles come in all sizes.
    ipex().optimize(
        network.eval(),
        inplace=True,
        weights_prepack=False,
        conv_bn_folding=False,
        linear_bn_folding=False,
    )


def _kept(
    network: nn.Module,
    device: torch.device,
    ways: list[Way],
    run: CallNetwork,
    samples: Sequence[Sample],
) -> list[str]:
    """Measure each way on a copy, and apply the one that is fastest and correct."""
    best, lines = None, []
    for way in ways:
        host.check_interrupted()
        measured = [_measured(network, device, way, run, sample) for sample in samples]
        ratios = [found / one.seconds for found, one in measured]
        for sample, (found, one), ratio in zip(samples, measured, ratios, strict=True):
            figures = f"{found * 1000:.1f} ms as found, {one.seconds * 1000:.1f} ms ({ratio:.2f}x)"
            figures = one.problem or f"{figures}, error {one.error:.1e}"
            lines.append(f"  {way.name}, {sample.name}: {figures}")
        limit = trial.limit(_dtype(network))
        good = all(not one.problem and one.error <= limit for _, one in measured)
        if good and min(ratios) >= trial.MARGIN and (best is None or min(ratios) > best[0]):
            best = (min(ratios), way)
    if best is not None:
        best[1].apply(network)
    return [f"Kept: {best[1].name if best else 'as found'}.", *lines]


def _measured(
    network: nn.Module, device: torch.device, way: Way, run: CallNetwork, sample: Sample
) -> tuple[float, Tried]:
    """Seconds as found, and what came of one way, in turns."""
    reference = run(network, sample)
    trying = copy.deepcopy(network)
    found, own = [], []
    try:
        way.apply(trying)
        preparing, result = trial.timed(lambda: run(trying, sample), device)
        for _ in range(trial.ROUNDS):
            found.append(trial.timed(lambda: run(network, sample), device)[0])
            own.append(trial.timed(lambda: run(trying, sample), device)[0])
            if found[-1] > trial.LONG_STEP:
                break
    except TROUBLE as error:
        return 1.0, Tried(Variant(), float("inf"), problem=trial.problem_of(error))
    difference = trial.error_of(result, reference)
    return min(found), Tried(Variant(), min(own), difference, preparing)
