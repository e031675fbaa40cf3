"""Figures as people read them."""

from .peaks import BYTES
from .result import CaseResult, Rate, Timing

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_RATES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

ONE_SAMPLE = "one sample"
"""Time was up before there was a second: it proves nothing."""

HEADER = (
    "suite", "case", "dtype", "device", "time", "+-", "against", "ratio", "rate", "of peak",
    "memory", "error", "remark",
)  # fmt: skip


def seconds(value: float) -> str:
    """A time, in the unit that suits it."""
    for size, unit in _SECONDS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def size(value: float) -> str:
    """Bytes, in the unit that suits them."""
    for unit_size, unit in _SIZES:
        if value >= unit_size:
            return f"{value / unit_size:.3g} {unit}"
    return f"{value:.0f} B"


def spread(timing: Timing) -> str:
    """Half the interval as a share, with a mark where it is wider than it should be."""
    if len(timing.samples) == 1:
        return ONE_SAMPLE
    return f"{timing.interval.width * 50:.1f} %" + ("" if timing.narrow else " (wide)")


def ratio(timing: Timing) -> str:
    if len(timing.samples) == 1:
        return f"{timing.median:.3f} ({ONE_SAMPLE})"
    return f"{timing.median:.3f} ({timing.low:.3f} to {timing.high:.3f})"


def rate(found: Rate) -> str:
    unit = "B/s" if found.unit == BYTES else "FLOP/s"
    for scale, letter in _RATES:
        if found.value >= scale:
            return f"{found.value / scale:.3g} {letter}{unit}"
    return f"{found.value:.3g} {unit}"


def error(result: CaseResult) -> str:
    """How far a result is from the exact one."""
    if result.error is None:
        return ""
    return f"{result.error:.2g}" + ("" if result.error_unit == "relative" else "/255")


def counts(result: CaseResult) -> str:
    """What was counted, but for what has a column of its own."""
    shown = {name: value for name, value in result.counts.items() if name != "flop"}
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in shown.items())  # fmt: skip


def cells(result: CaseResult) -> list[str]:
    """A line of a table, as HEADER says."""
    times, against = result.seconds, result.against
    status = "" if result.status == "measured" else result.status
    share = [f"{rate.share:.0%}" for rate in result.rates if rate.share is not None]
    return [
        result.suite,
        result.case,
        result.dtype,
        result.device,
        status if times is None else seconds(times.median),
        "" if times is None else spread(times),
        "" if against is None else f"{against.name}: {seconds(against.seconds.median)}",
        "" if against is None else ratio(against.ratio),
        ", ".join(rate(one) for one in result.rates),
        ", ".join(share),
        "" if result.peak_bytes is None else size(result.peak_bytes),
        error(result),
        "; ".join(part for part in (result.why, counts(result)) if part),
    ]
