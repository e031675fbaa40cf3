"""What ends a host together with whoever asked for it, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from comfyui_ipex.batch import hosting

WAIT_SECONDS = 30.0


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def ended(process: int) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(process)


LEASHED = """
import subprocess, sys, os
leash, folder = sys.argv[1:]
program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
child = subprocess.Popen(
    [sys.executable, leash, str(os.getpid()), folder, sys.executable, "-c", program],
    stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
child.wait()
"""


@pytest.mark.parametrize("victim", ["parent", "leash"])
def test_a_host_ends_with_whoever_asked_for_it(tmp_path: Path, victim: str) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", LEASHED, str(hosting.LEASH), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    leash, program = map(int, parent.stdout.readline().split())
    assert alive(program)
    os.kill(parent.pid if victim == "parent" else leash, signal.SIGKILL)
    parent.wait()
    assert ended(program)
    assert ended(leash)
    assert folder.exists() == (victim == "leash")


def test_a_host_that_is_told_to_terminate_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('asked', flush=True));"
        "print('ready', flush=True); time.sleep(600)"
    )
    command = [sys.executable, str(hosting.LEASH), str(os.getpid()), str(tmp_path)]
    with subprocess.Popen(
        [*command, sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True
    ) as leash:
        assert leash.stdout is not None
        assert leash.stdout.readline() == "ready\n"
        leash.send_signal(signal.SIGINT)
        assert leash.stdout.readline() == "asked\n"
        leash.terminate()
        assert leash.wait(WAIT_SECONDS) != 0
