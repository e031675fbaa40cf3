"""A record as Markdown, and as one HTML page that needs nothing else."""

from pathlib import Path
from typing import Any

from . import words
from .record import Record, write_at_once

EXTRA = "pip install 'comfyui-ipex[benchmarks]', or: pip install matplotlib rich"

READING = (
    "Times are medians; +- is half the width of the 95 % interval of the median, and (wide) says "
    "that measuring ended before that was narrow. A ratio is the other side's time over ours, "
    "measured in turns: above 1 ours is faster, and an interval that holds 1 shows no difference. "
    "Memory is what one call takes at most beyond what was held before it. Errors are relative to "
    "the same computed in fp32 or fp64 on the CPU unless another unit stands there."
)


def headline(conditions: dict[str, Any]) -> str:
    """One line for a device: what it is and what drives it."""
    parts = [
        f"{conditions['device']} {conditions['name']}",
        f"driver {conditions['driver']}" if conditions["driver"] else "",
        f"torch {conditions['torch']}",
        f"ComfyUI {conditions['host']}" if conditions["host"] else "",
        f"{conditions['cpu']}, {conditions['cores']} cores, {conditions['threads']} threads",
        f"Python {conditions['python']}",
        conditions["system"],
        "emulated: no speed" if conditions["emulated"] else "",
    ]
    return ", ".join(part for part in parts if part)


def load_line(loads: list[dict[str, Any]]) -> str:
    """How busy the machine was, over all moments that were looked at."""
    if not loads:
        return ""
    averages = [load["load_average"][0] for load in loads]
    busy = [load["cpu_percent"] for load in loads]
    parts = [
        f"load average {min(averages):.1f} to {max(averages):.1f}",
        f"CPU {min(busy):.0f} to {max(busy):.0f} % busy before and after suites",
    ]
    for name, unit, scale in (("clock_mhz", "MHz", 1), ("power_mw", "W", 1000)):
        told = [load[name] / scale for load in loads if load.get(name) is not None]
        if told:
            ends = dict.fromkeys((f"{min(told):.0f}", f"{max(told):.0f}"))
            parts.append(f"{' to '.join(ends)} {unit}")
    return ", ".join(parts)


def about(record: Record) -> list[str]:
    """Lines that say when, with what and how."""
    state = "complete" if record.complete else "interrupted: what was measured until then"
    mode = "quick, " if record.quick else ""
    seen = list(dict.fromkeys(headline(conditions) for conditions in record.conditions))
    return [
        f"{record.started}, {mode}{record.passes} pass(es), {state}",
        *seen,
        load_line(record.loads),
    ]


def markdown(record: Record) -> str:
    lines = ["# ipex-benchmarks", "", f"`{record.command}`", ""]
    lines += [f"- {line}" for line in about(record) if line]
    lines += ["", READING, "", table(record)]
    return "\n".join(lines) + "\n"


def table(record: Record) -> str:
    """The results as a Markdown table, without columns that hold nothing."""
    header, *rows = columns(record)
    lines = [header, ["---"] * len(header)]
    lines += [[cell.replace("|", "/") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def columns(record: Record) -> list[list[str]]:
    """The header and a row a result, without columns that hold nothing; the remark is the last."""
    rows = [words.cells(result) for result in record.results]
    last = len(words.HEADER) - 1
    used = [i for i in range(last + 1) if i == last or any(row[i] for row in rows)]
    return [[row[i] for i in used] for row in (list(words.HEADER), *rows)]


def page(record: Record) -> str:
    """The whole record as an HTML page with plots. Raises `ImportError` without matplotlib."""
    from jinja2 import Environment, FileSystemLoader

    from . import plots

    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, autoescape=True).get_template("page.html.j2")
    return template.render(
        command=record.command,
        about=[line for line in about(record) if line],
        reading=READING,
        table=columns(record),
        plots=plots.all_of(record),
    )


def write(record: Record, path: Path) -> list[Path]:
    """Write the Markdown and, where matplotlib is, the page beside the JSON file `path`."""
    written = [path.with_suffix(".md")]
    write_at_once(written[0], markdown(record))
    try:
        text = page(record)
    except ImportError:
        return written
    written.append(path.with_suffix(".html"))
    write_at_once(written[1], text)
    return written
