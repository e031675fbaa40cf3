"""`./comfyui-ipex batch` and `node`: their arguments, and their start in the set-up environment."""

import argparse
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from ..launcher.console import warn
from ..launcher.errors import SetupError
from ..launcher.folders import REPOSITORY, child_environment
from ..launcher.installation import set_up
from ..launcher.releases import RELEASES
from ..xpu_runtime.devices import AUTO
from ..xpu_runtime.processes.child import Child
from ..xpu_runtime.settings import read

PROGRAM = REPOSITORY / "batch"
TIMEOUT_SECONDS = 3600.0

END_SECONDS = 120.0
"""How long an interrupted batch may take to end its servers, or Ray."""

INTERRUPTED = 130


def parser(task: str) -> argparse.ArgumentParser:
    """The arguments of `batch` or `node`."""
    made = argparse.ArgumentParser(
        prog=f"./comfyui-ipex {task}",
        allow_abbrev=False,
        epilog="Arguments that are not listed here are handed to ComfyUI's main.py. "
        "docs/scale.md says more.",
    )
    if task == "batch":
        made.description = (
            "Run a workflow once for each row of a table, or for each frame of a video, on every "
            "device at once. The same command again does what is missing."
        )
        _source_arguments(made)
        _work_arguments(made)
    else:
        made.description = (
            "Make this machine a node of a Ray cluster that offers its devices to batches."
        )
        _node_arguments(made)
    made.add_argument(
        "--devices",
        default="",
        metavar="LIST",
        help="devices of this machine, with commas: cuda:0,xpu:0, or cuda, xpu for all of a maker, "
        "or cpu; the default is every GPU that torch sees, else the CPU",
    )
    made.add_argument(
        "--token-file", type=Path, metavar="FILE", help="the cluster's token, which only you read"
    )
    made.add_argument(
        "--host",
        metavar="VERSION",
        default=read("COMFYUI_IPEX_HOST"),
        help=f"ComfyUI version to set up: {', '.join(RELEASES)} (default %(default)s)",
    )
    return made


def _source_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("workflow", type=Path, help="a workflow in API format")
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help=".csv or .jsonl: a row is a job, a column such as 3.seed or KSampler.seed sets an "
        "input; @LoadImage.image names a file that is sent along; job names the result",
    )
    source.add_argument(
        "--frames",
        metavar="FROM",
        help="a folder, a pattern in quotes, a video or an animated picture: a frame is a job",
    )
    made.add_argument(
        "--frames-input",
        default="",
        metavar="NODE.INPUT",
        help="the input that takes a frame (default: that of the one LoadImage)",
    )
    made.add_argument(
        "--video", type=Path, metavar="FILE", help="join the results into a video at the end"
    )
    made.add_argument(
        "--rate", type=float, metavar="FPS", help="frames a second of --video (default: as found)"
    )


def _work_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where results go (default: a folder here, called after the table or the frames)",
    )
    made.add_argument(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="how often a job that failed is tried again, on another server (default %(default)s)",
    )
    made.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="the most that one job may take (default %(default)s)",
    )
    made.add_argument(
        "--address",
        default="",
        metavar="IP:PORT",
        help="use the devices of the Ray cluster there, and none of this process's own",
    )
    made.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and start nothing"
    )


def _node_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("--head", action="store_true", help="start a new cluster")
    made.add_argument(
        "--address", default="", metavar="IP:PORT", help="join the cluster whose head is there"
    )
    made.add_argument(
        "--listen",
        default="",
        metavar="IP[:PORT]",
        help="this machine's address in the cluster; a head's has a port (default for a head: "
        "127.0.0.1:6379, which no other machine reaches)",
    )


def main(argv: Sequence[str]) -> int:
    """Set up what the task needs and run it there; returns its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    task, options = argv[0], argv[1:]
    arguments, _ = parser(task).parse_known_args(list(options))
    try:
        installation = set_up(arguments.host, AUTO, os.environ)
        if task == "node" or arguments.address:
            installation.environment.install_cluster(installation.tree.path)
        return run_program([str(installation.environment.python), str(PROGRAM), *argv])
    except SetupError as error:
        warn(str(error))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def run_program(command: Sequence[str]) -> int:
    """Run the task's own program. An interrupt has it end in order, a second one at once."""
    with Child(command, environment=child_environment(), end_seconds=END_SECONDS) as child:
        with contextlib.suppress(KeyboardInterrupt):
            child.wait()
        status = child.stop()
    return INTERRUPTED if status is None else status
