"""The command line of `batch` and `node`, in the environment that the launcher set up."""

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ..launcher.console import say, warn
from ..launcher.errors import SetupError
from .errors import BatchInputError
from .launch import INTERRUPTED, parser

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
    arguments, for_servers = parser(task).parse_known_args(list(argv[1:]))
    try:
        refuse_reserved(for_servers)
        return (
            run_machine(arguments, for_servers)
            if task == "node"
            else run_batch(arguments, for_servers)
        )
    except (BatchInputError, SetupError) as error:
        warn(str(error))
        return 2
    except KeyboardInterrupt:
        warn("Interrupted. What is finished is kept; the same command does the rest.")
        return INTERRUPTED


def refuse_reserved(for_servers: Sequence[str]) -> None:
    """Raises `BatchInputError` if an argument of ComfyUI would change where a server listens."""
    for argument in for_servers:
        if argument.partition("=")[0] in RESERVED:
            raise BatchInputError(
                f"{argument} cannot be given: servers of a batch listen on the loopback interface, "
                "each at a port of its own, and keep their files apart."
            )


def run_batch(arguments: argparse.Namespace, for_servers: list[str]) -> int:
    """`./comfyui-ipex batch`. Raises `BatchInputError` and `SetupError`."""
    from . import conducting

    if arguments.retries < 0 or arguments.timeout <= 0:
        raise BatchInputError("--retries is 0 or more, and --timeout more than 0.")
    if arguments.address and (arguments.devices or for_servers):
        given = "--devices" if arguments.devices else for_servers[0]
        raise BatchInputError(
            f"{given} has no meaning with --address: which devices a machine offers, and how "
            "its servers are started, is said where ./comfyui-ipex node is started."
        )
    return conducting.run_batch(arguments, for_servers)


def run_machine(arguments: argparse.Namespace, for_servers: list[str]) -> int:
    """`./comfyui-ipex node`. Raises `BatchInputError` and `SetupError`."""
    from . import machine, plans

    listen = arguments.listen or (HEAD if arguments.head else "")
    machine.check(arguments.head, listen, arguments.address)
    found = []
    if arguments.devices != machine.NO_DEVICES:
        found = plans.plan_servers(arguments.host, arguments.devices, for_servers)
    token: Path | None = arguments.token_file
    say(f"ComfyUI {arguments.host}")
    return machine.serve_cluster(arguments.head, listen, arguments.address, token, found)
