"""The command line of `./comfyui-ipex`."""

import argparse
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ..xpu_runtime.devices import AUTO
from ..xpu_runtime.settings import read
from ..xpu_runtime.worker_plan import KINDS
from .benchmark import own_arguments, run_benchmarks
from .client import WorkflowError
from .console import say, warn
from .demo import run_demo
from .errors import SetupError
from .installation import PreparedHost, set_up
from .releases import RELEASES
from .server import Server

DEFAULT_PORT = 8188
TASKS = ("start", "setup", "demo", "benchmark")

OTHER_PROGRAMS = ("batch", "node")
"""Tasks of `../batch/launch.py`, which the same command starts."""


def build_parser() -> argparse.ArgumentParser:
    """The launcher's own arguments; whatever it does not know goes to ComfyUI."""
    tasks = "|".join((*TASKS, *OTHER_PROGRAMS))
    made = argparse.ArgumentParser(
        prog="./comfyui-ipex",
        usage=f"%(prog)s [{tasks}] [options] [ComfyUI's own arguments]",
        description="Set up ComfyUI with this extension, then: start the server (the default), "
        "stop after the set-up, run a demo that enlarges a photo, measure this machine, run many "
        "prompts over many devices (batch --help), or join a cluster for that (node --help).",
        epilog="Arguments that are not listed here are handed to ComfyUI's main.py, or to the "
        "benchmark (docs/benchmarks.md).",
        allow_abbrev=False,
    )
    made.add_argument(
        "--host",
        metavar="VERSION",
        default=read("COMFYUI_IPEX_HOST"),
        help=f"ComfyUI version to set up: {', '.join(RELEASES)} (default %(default)s)",
    )
    made.add_argument(
        "--device",
        default=read("COMFYUI_IPEX_DEVICE"),
        help="auto (CUDA, else XPU, else CPU), cpu, cuda[:n] or xpu[:n]",
    )
    made.add_argument("--force-intel-xpu", action="store_true", help="the same as --device xpu")
    made.add_argument("--cpu", action="store_true", help="the same as --device cpu")
    made.add_argument(
        "--worker",
        choices=KINDS,
        default="",
        help="set up a second Python with torch for these cards, and use them from this ComfyUI",
    )
    made.add_argument("--port", type=int, default=DEFAULT_PORT, help="port of the server")
    made.add_argument("--output", type=Path, help="demo: where to write the picture")
    return made


def requested_device(arguments: argparse.Namespace) -> str:
    """The device that the arguments ask for. Raises `SetupError` if they contradict."""
    asked = {arguments.device} - {AUTO}
    if arguments.force_intel_xpu and not arguments.device.startswith("xpu"):
        asked.add("xpu")
    if arguments.cpu:
        asked.add("cpu")
    if len(asked) > 1:
        raise SetupError(
            f"The arguments and settings ask for {' and '.join(sorted(asked))} at once.",
            remedy="Keep one of --device, --force-intel-xpu, --cpu and COMFYUI_IPEX_DEVICE.",
        )
    return str(next(iter(asked), AUTO))


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Being told to end is like Ctrl+C: no server may be left behind."""
    raise KeyboardInterrupt


def main(argv: Sequence[str]) -> int:
    """Run the launcher; returns the exit status."""
    signal.signal(signal.SIGTERM, interrupt)
    task, options = (argv[0], argv[1:]) if argv and argv[0] in TASKS else ("start", argv)
    if task == "benchmark":
        arguments, for_host = own_arguments(options)
    else:
        arguments, for_host = build_parser().parse_known_args(list(options))
    try:
        request = requested_device(arguments)
        installation = set_up(arguments.host, request, os.environ, arguments.worker)
        say(installation.tree.describe())
        say(f"Device: {installation.decision.device} ({installation.decision.reason})")
        if task == "benchmark":
            return run_benchmarks(installation, for_host)
        if task == "demo":
            return demo(installation, arguments.output)
        if task == "start":
            return start(installation, arguments.port, tuple(for_host))
    except (SetupError, WorkflowError, TimeoutError) as error:
        warn(str(error))
        return 1
    except KeyboardInterrupt:
        warn("Interrupted. Finished steps are kept; the next start resumes.")
        return 130
    say("Everything is set up.")
    return 0


def demo(installation: PreparedHost, output: Path | None) -> int:
    result = run_demo(installation, output)
    say(f"Enlarged in {result.seconds:.1f} s on {result.device}:")
    say(str(result.picture))
    return 0


def start(installation: PreparedHost, port: int, arguments: tuple[str, ...]) -> int:
    """Run the server until it ends or is told to; its messages go to this terminal."""
    with Server(installation.server_command(port, arguments)) as server:

        def forward(number: int, _frame: FrameType | None) -> None:
            server.child.send_signal(number)

        signal.signal(signal.SIGTERM, forward)
        server.wait_ready()
        say(f"\nComfyUI is ready: {server.client.address}\n")
        with contextlib.suppress(KeyboardInterrupt):
            server.child.wait()
        return server.stop()
