"""The program that a worker's process runs. Standard library only, until it knows the folders.

usage: bootstrap.py FOLDER

FOLDER is only this user's. A file in it has the orders: where to listen, the key that whoever
connects must have, and the folders of this extension and of the host.
"""

import importlib
import json
import os
import sys
import traceback
import types
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

ORDERS = "orders.json"

PACKAGE = "comfyui_ipex_worker"
"""The name of this extension in a worker's process."""


def main(folder: str) -> None:
    """Serve the one that knows the key, until it is gone."""
    file = Path(folder, ORDERS)
    orders = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()  # programs that are started here need not find the key
    calls, control = _connections(orders["address"], bytes.fromhex(orders["key"]))
    _find_packages(orders["extension"], orders["tree"])
    serving = _started(control)
    if serving is not None:
        serving.serve(calls, control)
    sys.stdout.flush()
    sys.stderr.flush()
    # Without waiting for a call that is still computed for nobody.
    os._exit(0)


def _connections(address: str, key: bytes) -> tuple[Connection, Connection]:
    """One for calls and one for what does not wait for them. Nothing listens afterwards."""
    found: list[Connection] = []
    with Listener(address, authkey=key) as listener:
        while len(found) < 2:
            try:
                found.append(listener.accept())
            except (AuthenticationError, EOFError, ConnectionError):
                continue  # a stranger
    return found[0], found[1]


def _find_packages(extension: str, tree: str) -> None:
    os.chdir(tree)
    own = os.path.dirname(os.path.abspath(__file__))
    # Python puts the folder of its program there, whose modules are no top-level ones.
    sys.path[:] = [tree, *(path for path in sys.path if os.path.abspath(path or ".") != own)]
    # The host parses the command line when it is imported.
    sys.argv = ["main.py"]
    package = types.ModuleType(PACKAGE)
    # Without running its __init__.py: that one is for a server.
    package.__path__ = [extension]
    sys.modules[PACKAGE] = package


def _started(control: Connection) -> Any:
    """The `serving.Serving` of this process, or None after saying why there is none."""
    setup = control.recv()
    try:
        serving = importlib.import_module(f"{PACKAGE}.xpu_runtime.workers.serving")
        started = serving.Serving(setup)
        description = started.describe()
    # Settings that cannot be met end a host by SystemExit; here the reason must reach it.
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is, the host tells it)
        traceback.print_exc()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        control.send((False, lines[-1].rstrip(".") if lines else type(error).__name__))
        return None
    control.send((True, description))
    return started


if __name__ == "__main__":
    main(sys.argv[1])
