"""Run a Python program on emulated Intel GPUs.

    python -m xpu_emulator --device a770 --count 2 -- main.py --listen
    python -m xpu_emulator --device b580 --memory 2GiB -- -m pytest tests
    python -m xpu_emulator --device a380 -- -c "import torch; ..."

The program runs in this process. The devices appear when it imports torch.
"""

from __future__ import annotations

import argparse
import atexit
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import xpu_emulator

from .devices import visible_devices
from .import_hook import after_torch_import

_OOM_STYLES = ("torch", "out_of_device_memory", "out_of_resources")


def _mem_get_info(text: str) -> str | int:
    return text if text in ("true", "raises", "all_free") else xpu_emulator.parse_size(text)


def _add_device_arguments(parser: argparse.ArgumentParser) -> None:
    size = xpu_emulator.parse_size
    group = parser.add_argument_group("devices (the options hold for all of them)")
    group.add_argument(
        "--device",
        action="append",
        choices=sorted(xpu_emulator.PROFILES),
        help="a card; give it several times for different ones (default: a770)",
    )
    group.add_argument("--count", type=int, default=1, help="so many of each (at most 4 in all)")
    group.add_argument("--memory", type=size, help="total memory, e.g. 2GiB")
    group.add_argument("--external", type=size, default=0, help="memory of other processes")
    group.add_argument("--max-alloc", type=size, default=0, help="largest single allocation")
    group.add_argument("--fp64", action=argparse.BooleanOptionalAction, help="override the profile")
    group.add_argument("--fp64-storage", action="store_true", help="store float64 without fp64")
    group.add_argument(
        "--mem-get-info",
        type=_mem_get_info,
        metavar="true|raises|all_free|SIZE",
        help="what mem_get_info answers (integrated GPUs: raises)",
    )
    group.add_argument("--oom", choices=_OOM_STYLES, default="torch", help="how memory runs out")
    group.add_argument(
        "--ur-errors",
        action="store_const",
        const="out_of_device_memory",
        dest="oom",
        help="short for --oom out_of_device_memory",
    )
    group.add_argument("--fail-alloc", type=int, default=0, metavar="N", help="fail the Nth")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xpu_emulator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_device_arguments(parser)
    group = parser.add_argument_group("behaviour")
    group.add_argument("--async-copies", action="store_true", help="delay non-blocking copies")
    group.add_argument("--poison", action="store_true", help="fill fresh memory with NaN")
    group.add_argument("--attention", choices=("fused", "math"), default="fused")
    group.add_argument("--rng-like-cpu", action="store_true", help="draw the CPU's numbers")
    group.add_argument("--beside-cuda", action="store_true", help="leave a CUDA GPU in place")
    group.add_argument("--deny", action="append", default=[], metavar="OP", help="refuse aten::OP")
    group.add_argument(
        "--report", type=Path, help="write counters there at exit, and on SIGUSR1 (JSON)"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, help="-- FILE, -m MODULE or -c CODE")
    return parser


def _devices(arguments: argparse.Namespace) -> list[xpu_emulator.DeviceSpec]:
    return [
        xpu_emulator.DeviceSpec(
            xpu_emulator.profile_named(name),
            total_memory=arguments.memory,
            external_memory=arguments.external,
            max_allocation=arguments.max_alloc,
            has_fp64=arguments.fp64,
            fp64_storage=arguments.fp64_storage,
            oom=arguments.oom,
            mem_get_info=arguments.mem_get_info,
        )
        for name in arguments.device or ["a770"]
        for _ in range(arguments.count)
    ]


def _options(arguments: argparse.Namespace) -> xpu_emulator.Options:
    return xpu_emulator.Options(
        async_copies=arguments.async_copies,
        poison=arguments.poison,
        attention=arguments.attention,
        rng_like_cpu=arguments.rng_like_cpu,
        denied_ops=tuple(name if "::" in name else f"aten::{name}" for name in arguments.deny),
    )


def _report_to(path: Path) -> None:
    def write(number: int | None = None, frame: FrameType | None = None) -> None:
        if xpu_emulator.is_installed():
            xpu_emulator.current().write_report(path)

    atexit.register(write)
    signal.signal(signal.SIGUSR1, write)
    # A server is stopped with SIGTERM, which by itself would skip atexit.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _parsed(
    arguments: Sequence[str],
) -> tuple[argparse.Namespace, list[xpu_emulator.DeviceSpec], xpu_emulator.Options]:
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        devices, options = _devices(parsed), _options(parsed)
        visible_devices(devices)
    except ValueError as error:
        parser.error(str(error))
    return parsed, devices, options


def _own_arguments(parsed: argparse.Namespace) -> list[str]:
    if parsed.report is not None:
        _report_to(parsed.report.absolute())
    program = list(parsed.program)
    return program[1:] if program[:1] == ["--"] else program


def _fail_allocations(parsed: argparse.Namespace) -> None:
    if parsed.fail_alloc:
        for device in xpu_emulator.current().devices:
            device.fail_allocation(parsed.fail_alloc)


def emulate(arguments: Sequence[str]) -> list[str]:
    """Arrange the emulation that `arguments` ask for; return the program's own arguments."""
    parsed, devices, options = _parsed(arguments)

    def install() -> None:
        xpu_emulator.install(devices, options, beside_cuda=parsed.beside_cuda)
        _fail_allocations(parsed)

    after_torch_import(install)
    return _own_arguments(parsed)


def emulate_anew(arguments: Sequence[str]) -> list[str]:
    """As `emulate`, in a process that has emulated cards already: it gets others."""
    parsed, devices, options = _parsed(arguments)
    xpu_emulator.current().configure(visible_devices(devices), options)
    _fail_allocations(parsed)
    return _own_arguments(parsed)


def start_program(program: list[str]) -> None:
    """Run a program in this process: its arguments are as after `--`."""
    kind = program[0]
    if kind == "-m":
        sys.argv = program[1:]
        sys.path[0] = ""
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *program[2:]]
        sys.path[0] = ""
        namespace = {"__name__": "__main__", "__builtins__": __builtins__}
        exec(compile(program[1], "<string>", "exec"), namespace)  # noqa: S102 - as python -c does
    else:
        sys.argv = program
        sys.path[0] = str(Path(kind).absolute().parent)
        runpy.run_path(kind, run_name="__main__")


def main() -> None:
    """Run the program named on the command line."""
    program = emulate(sys.argv[1:])
    if not program or (program[0] in ("-m", "-c") and len(program) < 2):
        _parser().error("name a program to run: -- FILE, -- -m MODULE or -- -c CODE")
    start_program(program)


if __name__ == "__main__":
    main()
