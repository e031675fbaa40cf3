"""Processes of this machine, as the kernel shows them: which are left, and where they listen."""

import os
import re
import time
from pathlib import Path

LISTENS = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def of_folder(folder: str) -> dict[int, str]:
    """Command lines, by process id, of the processes that were started with this folder."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (entry / "environ").read_text(errors="replace")
        except OSError:
            continue
        if folder in command or folder in environment:
            found[int(entry.name)] = command
    return found


def listening_elsewhere(processes: list[int]) -> list[str]:
    """Addresses, other than the loopback interface's, at which one of `processes` listens."""
    sockets = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
            except OSError:
                continue
            if found:
                sockets.add(found[1])
    found_at = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address = fields[1].partition(":")[0]
            if fields[3] == LISTENS and fields[9] in sockets and address not in LOOPBACK:
                found_at.append(fields[1])
    return found_at


def gone(folder: str, seconds: float) -> dict[int, str]:
    """What is left of `of_folder` when nothing is, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while (left := of_folder(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
