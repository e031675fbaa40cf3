"""Waits until ComfyUI has ended in any way, and takes away what Ray leaves. Standard library only.

usage: keeper.py FOLDER    (standard input: a pipe that only ComfyUI's process holds open)

Ray's processes end with ComfyUI by themselves; one that does not is killed. FOLDER holds their
sockets and logs. Their shared memory has no name and goes with them.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

PATIENCE_SECONDS = 5.0

MARK = "COMFYUI_IPEX_WORKER_OF"
"""In the environment of workers: the folder that they belong to."""


def processes_of(folder: str) -> list[int]:
    """Processes, but for this one, that were started for `folder`."""
    mark, named = f"{MARK}={folder}".encode(), folder.encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            started_as = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # another user's, or it has just ended
        if named in started_as or mark in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def clear(folder: str) -> None:
    """Wait for the processes of `folder`, end those that stay, remove it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    while processes_of(folder):
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Wait for the end of standard input."""
    # The terminal's interrupt is meant for ComfyUI.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    clear(sys.argv[1])


if __name__ == "__main__":
    main()
