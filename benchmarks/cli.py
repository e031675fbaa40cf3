"""The command line of `ipex-benchmarks`."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from . import compare, record, report, table
from .bench_process import Interruption
from .conductor import BenchPlan, Conductor
from .hosting import find_tree
from .result import FAILED
from .show import say, shown

DTYPES = ("fp32", "fp16", "bf16")
DEVICE = r"cpu|(cuda|xpu)(:\d+)?"

DESCRIPTION = """\
Measures devices and writes OUTPUT.json, OUTPUT.md and OUTPUT.html. Other tasks:
  compare A.json B.json   ratios with intervals; what is noise is called noise
  report A.json           writes the Markdown and the page of a file again
  list                    the suites and their cases
docs/benchmarks.md says what the figures mean and which file to send."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="ipex-benchmarks",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(dict.fromkeys(n for s in table.SUITES for n in (s.name, s.group) if n))
    made.add_argument("--device", help="cpu, cuda:0, xpu:0, with commas (default: the GPUs)")
    made.add_argument("--dtype", help=f"{', '.join(DTYPES)}, with commas (default: by device)")
    made.add_argument("--suite", default="", help=f"with commas: {names} (default: all)")
    made.add_argument("--case", default="", help="beginnings of the names of cases, with commas")
    made.add_argument("--quick", action="store_true", help="small sizes, little time")
    made.add_argument("--passes", type=int, help="processes a suite (default 3; 1 with --quick)")
    made.add_argument("--tree", type=Path, help="the ComfyUI folder (default: COMFYUI_DIR)")
    made.add_argument("--emulate", default="", metavar="CARD", help="emulated XPU: no speed")
    made.add_argument("--output", type=Path, help="where to write, without .json")
    return made


def split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def devices_here() -> tuple[str, ...]:
    """Every GPU that torch offers, or the CPU."""
    from ..xpu_runtime.devices import discover

    found = [device.name for device in discover() if device.kind != "cpu"]
    return tuple(found) or ("cpu",)


def plan_of(options: argparse.Namespace) -> BenchPlan:
    """What the arguments ask for. Raises `ValueError` if that cannot be."""
    dtypes = split(options.dtype)
    wrong = [dtype for dtype in dtypes if dtype not in DTYPES]
    if wrong:
        raise ValueError(f"There is no dtype {', '.join(wrong)}. Choose from {', '.join(DTYPES)}.")
    given = split(options.device)
    unknown = [name for name in given if not re.fullmatch(DEVICE, name)]
    if unknown:
        raise ValueError(f"There is no device {', '.join(unknown)}. Say cpu, cuda:0 or xpu:0.")
    if options.passes is not None and options.passes < 1:
        raise ValueError(f"--passes is {options.passes}; it must be at least 1.")
    return BenchPlan(
        suites=table.named(split(options.suite)),
        devices=given or (("xpu:0",) if options.emulate else devices_here()),
        dtypes=dtypes,
        cases=split(options.case),
        quick=options.quick,
        passes=options.passes or (1 if options.quick else 3),
        tree=find_tree(options.tree),
        emulate=options.emulate,
    )


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit status."""
    if arguments and arguments[0] == "bench-process":
        from . import measuring

        return measuring.main(arguments[1])
    named = bool(arguments) and arguments[0] in TASKS
    task, rest = (arguments[0], arguments[1:]) if named else ("run", arguments)
    try:
        return TASKS[task](rest)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"ipex-benchmarks: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130  # before anything was measured


def measure(arguments: Sequence[str]) -> int:
    """Measure. On Ctrl+C the files hold what was measured until then, and say so."""
    options = parser().parse_args(arguments)
    plan = plan_of(options)
    started = record.now()
    output = options.output or Path(f"ipex-benchmarks-{started[:16].replace(':', '')}")
    command = shlex.join(["ipex-benchmarks", *_without_paths(arguments)])
    kept = record.Record(command, plan.quick, plan.passes, started)
    path = output.with_name(output.name + ".json")
    with Interruption() as interruption:
        say(f"Results go to {path} after every case; Ctrl+C keeps what there is.")
        written = [path, *_measured(plan, kept, path, interruption)]
        for file in written:
            say(f"Wrote {file}")
        if not path.with_suffix(".html").exists():
            say(f"There is no page with plots without matplotlib: {report.EXTRA}")
    if not kept.complete:
        return 128 + (interruption.number or 0)
    if not kept.results:
        raise ValueError("Nothing was measured: no case that fits here has such a name. See list.")
    return int(all(result.status == FAILED for result in kept.results))


def _measured(
    plan: BenchPlan, kept: record.Record, path: Path, interruption: Interruption
) -> list[Path]:
    """Measure, and write the files beside `path`, whatever ended it; those files."""
    try:
        with shown() as show:
            Conductor(plan, kept, path, show, interruption).measure_all()
    except OSError:
        if not interruption.asked:
            raise
        # Else the terminal, too, may have been closed.
    finally:
        if interruption.asked:
            say("Interrupted; what was measured until then is being written.")
        written = report.write(kept, path)
    return written


def _without_paths(arguments: Sequence[str]) -> list[str]:
    """The arguments as others can use them: $COMFYUI_DIR, and the output's name alone."""
    named = {"--tree": lambda _: "$COMFYUI_DIR", "--output": lambda value: Path(value).name}
    kept: list[str] = []
    before = ""
    for word in arguments:
        option, equals, value = word.partition("=")
        if before in named:
            kept.append(named[before](word))
        elif equals and option in named:
            kept.append(f"{option}={named[option](value)}")
        else:
            kept.append(word)
        before = word
    return kept


def compare_records(arguments: Sequence[str]) -> int:
    made = argparse.ArgumentParser(prog="ipex-benchmarks compare")
    made.add_argument("before", type=Path, metavar="A.json")
    made.add_argument("after", type=Path, metavar="B.json")
    made.add_argument(
        "--floor", type=float, default=compare.FLOOR, help="differences up to this are noise"
    )
    options = made.parse_args(arguments)
    before, after = record.load(options.before), record.load(options.after)
    say(compare.as_markdown(before, after, options.floor).rstrip())
    return 0


def write_reports(arguments: Sequence[str]) -> int:
    """Write the Markdown and the page of a file again."""
    made = argparse.ArgumentParser(prog="ipex-benchmarks report")
    made.add_argument("file", type=Path, metavar="A.json")
    path = made.parse_args(arguments).file
    for written in report.write(record.load(path), path):
        say(f"Wrote {written}")
    return 0


def list_suites(arguments: Sequence[str]) -> int:
    argparse.ArgumentParser(prog="ipex-benchmarks list").parse_args(arguments)
    for suite in table.SUITES:
        say(f"{suite.name}: {suite.title}")
        for case in table.cases_of(suite):
            say(f"    {case.name}: {case.measures}{' (quick)' if case.quick else ''}")
    return 0


TASKS = {"run": measure, "compare": compare_records, "report": write_reports, "list": list_suites}
