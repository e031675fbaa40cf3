"""Plots of a record as SVG, for the page."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import words
from .intervals import CONFIDENCE
from .record import Record
from .result import CaseResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# From the palette of Okabe and Ito, which colour-blind people can tell apart.
OURS, THEIRS, GREY = "#0072b2", "#d55e00", "#5b6770"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
_ROW = 0.3
_WIDTH = 9.5


@dataclass(frozen=True)
class Plot:
    title: str
    caption: str
    svg: str


def all_of(record: Record) -> list[Plot]:
    """The plots that a record has figures for. Raises `ImportError` without matplotlib."""
    made: list[Plot] = []
    with_ratio = [r for r in record.results if r.against is not None]
    for suite in dict.fromkeys(result.suite for result in with_ratio):
        made.append(ratios(suite, [r for r in with_ratio if r.suite == suite]))
    shared = [r for r in record.results if any(rate.share is not None for rate in r.rates)]
    for suite in dict.fromkeys(result.suite for result in shared):
        made.append(shares(suite, [r for r in shared if r.suite == suite]))
    swept = [r for r in record.results if r.sweep and r.seconds is not None]
    for device in dict.fromkeys(result.device for result in swept):
        made.append(sweeps(device, [r for r in swept if r.device == device]))
    return made


def _figure(height: float, columns: int = 1) -> "tuple[Figure, Sequence[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#d8dfe6", linewidth=0.6, zorder=0)
    return figure, axes


def _svg(figure: "Figure") -> str:
    import matplotlib

    buffer = io.StringIO()
    # Text stays text, so that it can be searched; names of nothing from outside.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ipex-benchmarks"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _labels(results: Sequence[CaseResult]) -> list[str]:
    several = len({result.device for result in results}) > 1
    parts = (
        (r.case, "" if r.dtype == "-" else r.dtype, r.device if several else "") for r in results
    )
    return [" ".join(filter(None, row)) for row in parts]


def _rows(axes: "Axes", labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=8.5)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def ratios(suite: str, results: Sequence[CaseResult]) -> Plot:
    """A point with its interval for each comparison."""
    figure, (axes,) = _figure(1.0 + _ROW * len(results))
    for row, result in enumerate(results):
        if result.against is None:
            continue
        found = result.against.ratio
        certain = found.confidence >= CONFIDENCE and not found.interval.around(1.0)
        colour = GREY if not certain else OURS if found.median > 1 else THEIRS
        axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2.5, zorder=3)
        axes.plot(found.median, row, "o", color=colour, markersize=5, zorder=4)
        axes.annotate(
            f"{found.median:.3g}", (found.high, row), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8, color=GREY, bbox=_BEHIND_TEXT, zorder=5,
        )  # fmt: skip
    axes.axvline(1.0, color="#1c2733", linewidth=0.8, zorder=2)
    values = [r.against.ratio for r in results if r.against is not None]
    if max(v.high for v in values) > 3 * min(v.low for v in values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_plain)
        axes.xaxis.set_minor_formatter(_plain)
        axes.tick_params(axis="x", which="both", labelsize=8)
    axes.margins(x=0.12)
    _rows(axes, _labels(results))
    axes.set_xlabel("the other side's time over ours (above 1: ours is faster)")
    names = ", ".join(dict.fromkeys(r.against.name for r in results if r.against is not None))
    caption = (
        f"Against: {names}. The bar is the 95 % interval of the median ratio, both sides measured "
        "in turns. Blue: ours is faster; orange: slower; grey: no difference shown."
    )
    return Plot(f"{suite}: ratios", caption, _svg(figure))


def _plain(value: float, _position: int | None = None) -> str:
    mantissa = f"{value:.0e}"[0]
    return f"{value:g}" if mantissa in "125" else ""


def shares(suite: str, results: Sequence[CaseResult]) -> Plot:
    """A bar a case: the limit, arithmetic or memory, that it is nearer to."""
    bars = [
        (label, max(told, key=lambda rate: rate.share or 0.0))
        for label, result in zip(_labels(results), results, strict=True)
        if (told := [rate for rate in result.rates if rate.share is not None])
    ]
    figure, (axes,) = _figure(1.0 + _ROW * len(bars))
    for row, (_, rate) in enumerate(bars):
        colour = OURS if rate.unit == "flop/s" else LINES[2]
        axes.barh(row, rate.share * 100, height=0.7, color=colour, zorder=3)
        axes.annotate(
            f"{rate.share:.0%}  {words.rate(rate)}", (rate.share * 100, row),
            xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, color=GREY,
        )  # fmt: skip
    _rows(axes, [label for label, _ in bars])
    axes.margins(x=0.22)
    axes.set_xlim(left=0)
    axes.set_xlabel("% of the device's limit")
    limits = dict.fromkeys(
        f"{words.rate(replace(rate, value=rate.peak))} ({rate.peak_source})"
        for _, rate in bars
        if rate.peak is not None
    )
    caption = (
        "Nearer to the limit of arithmetic (blue) or of memory (green): "
        + "; ".join(limits)
        + ". What fits into a "
        "cache can exceed the memory's limit."
    )
    return Plot(f"{suite}: share of the device's limit", caption, _svg(figure))


def sweeps(device: str, results: Sequence[CaseResult]) -> Plot:
    """Pictures a second and memory over the batch."""
    figure, (speed, memory) = _figure(3.8, columns=2)
    groups = dict.fromkeys((result.sweep, result.dtype) for result in results)
    for colour, (sweep, dtype) in zip(LINES * 3, groups, strict=False):
        own = [r for r in results if (r.sweep, r.dtype) == (sweep, dtype)]
        batches = [r.batch for r in own]
        rates = [r.batch / r.seconds.median for r in own if r.seconds is not None]
        peaks = [max(1, r.peak_bytes or 0) for r in own]
        speed.plot(batches, rates, "o-", color=colour, markersize=4, label=f"{sweep} {dtype}")
        memory.plot(batches, peaks, "o-", color=colour, markersize=4)
    for axes, label, written in (
        (speed, "latents a second, one step each", "{:g}".format),
        (memory, "memory beside the weights", words.size),
    ):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        # Whole powers at both ends: an axis over less than one would have no figure.
        low, high = (math.log2(value) for value in axes.dataLim.intervaly)
        axes.set_ylim(2.0 ** math.floor(low), 2.0 ** max(math.ceil(high), math.floor(low) + 1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(lambda value, _, written=written: written(value))
        axes.set_xlabel("batch")
        axes.set_ylabel(label)
    speed.legend(fontsize=8, frameon=False)
    ends = "Each line ends with the last batch that fitted into memory and the time allowed."
    return Plot(f"Batches on {device}", ends, _svg(figure))
