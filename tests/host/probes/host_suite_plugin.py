"""A pytest plugin for ComfyUI's own test suites; runs inside pytest in the host's tree.

usage: pytest -p host_suite_plugin [--load-pack FOLDER | --load-host] [--cpu-only] ...

It loads the host, or a custom-node pack as the host does at start, into this process before any
test is collected; and it lets a busy machine start a server slowly: the suites' own clients give up
after 20 s.
"""

import argparse
import importlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket
from load_extension import load_pack

READY_SECONDS = 300.0

POLL_SECONDS = 0.5


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that the runner of the suites passes."""
    parser.addoption("--load-pack", type=Path, help="a custom-node pack to load first")
    parser.addoption("--load-host", action="store_true", help="only the host itself")
    parser.addoption("--cpu-only", action=argparse.BooleanOptionalAction, help="the host's --cpu")


def pytest_configure(config: pytest.Config) -> None:
    """Make the suites' clients patient."""
    websocket.WebSocket.connect = patient(websocket.WebSocket.connect)


def patient(connect: Callable[..., Any]) -> Callable[..., Any]:
    """`connect`, repeated while nothing listens; ends the run if no server ever comes."""

    def connect_when_ready(*arguments: Any, **options: Any) -> Any:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                return connect(*arguments, **options)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    pytest.exit(f"no server answered within {READY_SECONDS:.0f} s", returncode=3)
            time.sleep(POLL_SECONDS)

    return connect_when_ready


def pytest_sessionstart(session: pytest.Session) -> None:
    """Load the host or the pack; what is logged goes to standard error."""
    if session.config.getoption("--cpu-only"):
        from comfy.cli_args import args

        args.cpu = True
    pack = session.config.getoption("--load-pack")
    if pack is None and not session.config.getoption("--load-host"):
        return
    handler = logging.StreamHandler(sys.stderr)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # main.py imports this first, too: nodes puts a folder on the path that has another "utils".
    importlib.import_module("utils.extra_config")
    if pack is None:
        importlib.import_module("comfy.model_management")
    elif not load_pack(pack):
        raise pytest.UsageError(f"{pack} did not load")
    root.removeHandler(handler)
    root.setLevel(level)
