"""The command line of a batch and of a node, in the environment that the launcher set up."""

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ..launcher.batch import parser
from ..launcher.console import say, warn
from ..launcher.errors import SetupError
from .errors import InputError

INTERRUPTED = 130

RESERVED = (
    "--listen",
    "--port",
    "--output-directory",
    "--input-directory",
    "--temp-directory",
    "--database-url",
)
"""Arguments of ComfyUI that are a batch's own matter."""

HEAD = "127.0.0.1:6379"


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Told to end: once; what follows is the end in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv: Sequence[str]) -> int:
    """Run a task; returns 0, 1 if jobs failed or are missing, 2 for wrong input, 130."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    task = argv[0]
    arguments, for_host = parser(task).parse_known_args(list(argv[1:]))
    try:
        refuse_reserved(for_host)
        return run_node(arguments, for_host) if task == "node" else run_batch(arguments, for_host)
    except (InputError, SetupError) as error:
        warn(str(error))
        return 2
    except KeyboardInterrupt:
        warn("Interrupted. What is finished is kept; the same command does the rest.")
        return INTERRUPTED


def refuse_reserved(for_host: Sequence[str]) -> None:
    """Raises `InputError` if one of ComfyUI's arguments would change where a host listens."""
    for argument in for_host:
        if argument.partition("=")[0] in RESERVED:
            raise InputError(
                f"{argument} cannot be given: hosts of a batch listen on the loopback interface, "
                "each at a port of its own, and keep their files apart."
            )


def run_batch(arguments: argparse.Namespace, for_host: list[str]) -> int:
    """`./comfyui-ipex batch`. Raises `InputError` and `SetupError`."""
    from . import run

    if arguments.retries < 0 or arguments.timeout <= 0:
        raise InputError("--retries is 0 or more, and --timeout more than 0.")
    if arguments.address and (arguments.devices or for_host):
        given = "--devices" if arguments.devices else for_host[0]
        raise InputError(
            f"{given} has no meaning with --address: which devices a node offers, and how its "
            "hosts are started, is said where the node is started."
        )
    return run.batch(arguments, for_host)


def run_node(arguments: argparse.Namespace, for_host: list[str]) -> int:
    """`./comfyui-ipex node`. Raises `InputError` and `SetupError`."""
    from . import node, plans

    listen = arguments.listen or (HEAD if arguments.head else "")
    node.check(arguments.head, listen, arguments.address)
    found = []
    if arguments.devices != node.NO_DEVICES:
        found = plans.plans(arguments.host, arguments.devices, for_host)
    token: Path | None = arguments.token_file
    say(f"ComfyUI {arguments.host}")
    return node.serve(arguments.head, listen, arguments.address, token, found)
