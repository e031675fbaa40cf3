"""`./comfyui-ipex benchmark`: measures this machine in the environment that was set up."""

import argparse
import signal
from collections.abc import Mapping, Sequence
from types import FrameType

from ..xpu_runtime.devices import AUTO
from ..xpu_runtime.processes.child import Child
from ..xpu_runtime.settings import read
from .folders import REPOSITORY, child_environment
from .installation import PreparedHost
from .releases import RELEASES

PROGRAM = REPOSITORY / "ipex_benchmarks.py"

# The same as `benchmarks` in pyproject.toml.
PACKAGES = ("matplotlib>=3.8", "rich>=13")

# A comparison of files, say, needs no ComfyUI and no device.
WITHOUT_HOST = ("compare", "report", "list")

END_SECONDS = 120.0
"""How long a benchmark that is asked to end may take to write what it has."""

INTERRUPTED = 130


def own_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the launcher needs to know, and what goes to the benchmark: all but --host."""
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    made.add_argument("--host", default=read("COMFYUI_IPEX_HOST"), choices=RELEASES)
    made.set_defaults(device=AUTO, force_intel_xpu=False, cpu=False, worker="")
    return made.parse_known_args(list(arguments))


def build_command(installation: PreparedHost, arguments: Sequence[str]) -> list[str]:
    started = [str(installation.environment.python), str(PROGRAM), *arguments]
    if arguments[:1] and arguments[0] in WITHOUT_HOST:
        return started
    return [*started, "--tree", str(installation.tree.path)]


def run_benchmarks(installation: PreparedHost, arguments: Sequence[str]) -> int:
    """Install what draws tables and plots, run the benchmark, return its exit status.

    Raises `SetupError`.
    """
    installation.environment.install("benchmarks", "Tables and plots", list(PACKAGES))
    # Which devices are measured is the benchmark's own choice.
    environment = {**child_environment(), "COMFYUI_IPEX_DEVICE": AUTO}
    return _run_to_its_end(build_command(installation, arguments), environment)


def _run_to_its_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit status of a program that is asked to end by every signal, and then waited for."""
    signals: list[int] = []
    children: list[Child] = []

    def ask_to_end(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        for child in children:
            child.ask_to_end()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_end)
    with Child(command, environment=environment, end_seconds=END_SECONDS) as child:
        children.append(child)
        if signals:
            child.ask_to_end()
        status = child.wait()
    return INTERRUPTED if status is None else status if status >= 0 else 128 - status
