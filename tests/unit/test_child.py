"""A child process ends with its owner, however that ends, and leaves no process and no folder."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import processes
import pytest
from comfyui_ipex.xpu_runtime.processes.child import Child
from conftest import REPOSITORY

WAIT_SECONDS = 30.0

OWNER = """
import os, signal, sys, time, types
from pathlib import Path
package = types.ModuleType("comfyui_ipex")
package.__path__ = [sys.argv[1]]
sys.modules["comfyui_ipex"] = package
from comfyui_ipex.xpu_runtime.processes.child import Child
folder = Path(sys.argv[2])
child = Child([sys.executable, "-c", sys.argv[3], str(folder)], folder=folder, end_seconds=1.0)
while not (folder / "ready").exists():
    time.sleep(0.01)
"""

FAMILY = """
import os, signal, subprocess, sys, time
from pathlib import Path
again = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(again)
subprocess.Popen(again, start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.execv(again[0], again)
Path(sys.argv[1], "ready").touch()
time.sleep(600)
"""
"""A program with a child, one in a session of its own, and one that is nobody's child."""

FORKED = "if os.fork() == 0:\n    time.sleep(600)\n"

ENDS = {
    "exit": "sys.exit(0)",
    "exit at once": "os._exit(1)",
    "exception": "raise RuntimeError('an error')",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "another program": "os.execv('/bin/true', ['true'])",
    "SIGKILL beside a forked copy": FORKED + "os.kill(os.getpid(), signal.SIGKILL)",
}


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


def removed(folder: Path) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not folder.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a child, with something in it."""
    made = tmp_path / "scratch"
    made.mkdir()
    (made / "file").write_text("x")
    return made


def owned(folder: Path, program: str, then: str) -> int:
    """The exit status of a process that starts `program`, waits for "ready", and then ends."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER + then, str(REPOSITORY), str(folder), program],
        env={**os.environ, "OF_FOLDER": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as owner:
        return owner.wait(WAIT_SECONDS)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_however_the_owner_ends(folder: Path, end: str) -> None:
    owned(folder, FAMILY, ENDS[end])
    assert removed(folder)
    if end.endswith("forked copy"):
        # The copy is nothing of the child's.
        deadline = time.monotonic() + WAIT_SECONDS
        while len(copies := processes.of_folder(str(folder))) > 1:
            assert time.monotonic() < deadline, copies
            time.sleep(0.05)
        os.kill(next(iter(copies)), signal.SIGKILL)
    assert processes.gone(str(folder), WAIT_SECONDS) == {}


def test_a_child_of_a_killed_owner_may_end_in_order(folder: Path) -> None:
    said = folder.with_name("said")
    program = f"""
import signal, sys, time
from pathlib import Path
def end(*_):
    Path({str(said)!r}).write_text("in order")
    sys.exit()
signal.signal(signal.SIGTERM, end)
Path(sys.argv[1], "ready").touch()
time.sleep(600)
"""
    owned(folder, program, ENDS["SIGKILL"])
    assert removed(folder)
    assert said.read_text() == "in order"


def test_a_child_that_is_stopped_is_killed_after_the_deadline(folder: Path) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    with Child(python(program), end_seconds=0.5, folder=folder) as stopped:
        deadline = time.monotonic() + WAIT_SECONDS
        while "\nState:\tT" not in Path(f"/proc/{stopped.pid}/status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        began = time.monotonic()
        assert stopped.stop() == -signal.SIGKILL
        assert time.monotonic() - began >= 0.5
    assert not folder.exists()


def test_a_child_of_a_killed_owner_is_killed_after_the_deadline_too(folder: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
Path(sys.argv[1], "ready").touch()
os.kill(os.getpid(), signal.SIGSTOP)
"""
    owned(folder, program, ENDS["SIGKILL"])
    assert removed(folder)
    assert processes.gone(str(folder), WAIT_SECONDS) == {}


def test_a_child_is_asked_by_the_signal_of_its_owners_choice() -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    program = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(600)
"""
    asked = Child(python(program), stdout=lines.put, end_signal=signal.SIGINT)
    assert lines.get(timeout=WAIT_SECONDS) == "ready\n"
    assert asked.status is None
    assert asked.stop() == asked.status == asked.wait() == 7
    assert lines.get(timeout=WAIT_SECONDS) == ""
    assert asked.stop() == 7
    asked.kill()
    asked.send_signal(signal.SIGINT)


def test_an_interrupt_while_a_child_is_being_stopped_kills_it(folder: Path) -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    program += "; print('ready', flush=True); time.sleep(600)"
    stubborn = Child(python(program), stdout=lines.put, end_seconds=600.0, folder=folder)
    lines.get(timeout=WAIT_SECONDS)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            stubborn.stop()
    finally:
        signal.signal(signal.SIGINT, before)
    assert stubborn.status == -signal.SIGKILL
    assert not folder.exists()


def test_what_a_child_leaves_behind_ends_with_it_before_its_status_is_told(folder: Path) -> None:
    program = FAMILY.replace("time.sleep(600)\n", "sys.exit(3)\n")
    environment = {**os.environ, "OF_FOLDER": str(folder)}
    command = [*python(program), str(folder)]
    with Child(command, environment=environment, folder=folder) as left:
        assert left.wait(WAIT_SECONDS) == 3
        assert list(processes.of_folder(str(folder))) == [left._guard.pid]
        assert folder.exists()
    assert not folder.exists()
    assert left.status == 3


def test_a_child_ends_with_what_guards_it(folder: Path) -> None:
    with Child(python("import time; time.sleep(600)"), folder=folder) as guarded:
        os.kill(guarded._guard.pid, signal.SIGKILL)
        assert guarded.wait(WAIT_SECONDS) == -signal.SIGKILL
        assert ended(guarded.pid)
    assert not folder.exists()


def test_a_child_ends_when_its_owner_and_what_guards_it_are_killed(folder: Path) -> None:
    program = "import sys, time; from pathlib import Path"
    program += "; Path(sys.argv[1], 'ready').touch(); time.sleep(600)"
    owned(folder, program, "os.kill(child._guard.pid, signal.SIGKILL)\n" + ENDS["SIGKILL"])
    assert processes.gone(str(folder), WAIT_SECONDS) == {}


def test_the_folder_of_a_childs_own_child_goes_when_the_child_is_killed(folder: Path) -> None:
    inner = folder.with_name("inner")
    inner.mkdir()
    sleeps = "import time; from pathlib import Path; import sys"
    sleeps += "; Path(sys.argv[1], 'ready').touch(); time.sleep(600)"
    command = [*python(OWNER + "time.sleep(600)"), str(REPOSITORY), str(inner), sleeps]
    with Child(command, folder=folder) as outer:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (inner / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        outer.kill()
        assert outer.wait(WAIT_SECONDS) == -signal.SIGKILL
        assert not inner.exists()


def test_both_streams_are_handed_on_by_lines() -> None:
    said: list[str] = []
    warned: list[str] = []
    program = "import sys; print('a'); sys.stderr.write('b\\nc'); print('d')"
    with Child(python(program), stdout=said.append, stderr=warned.append) as both:
        both.wait(WAIT_SECONDS)
    assert (said, warned) == (["a\n", "d\n", ""], ["b\n", "c", ""])
    merged: list[str] = []
    with Child(python(program), stdout=merged.append, stderr=subprocess.STDOUT) as both:
        both.wait(WAIT_SECONDS)
    assert sorted("".join(merged)) == sorted("a\nb\ncd\n")


def test_a_child_has_its_owners_choice_of_folder_environment_and_file(tmp_path: Path) -> None:
    program = "import os, sys; print(os.getcwd(), os.environ['A'], repr(sys.stdin.read()))"
    with (tmp_path / "log").open("w") as log:
        environment = {**os.environ, "A": "b"}
        with Child(python(program), cwd=tmp_path, environment=environment, stdout=log) as chosen:
            assert chosen.wait(WAIT_SECONDS) == 0
    assert (tmp_path / "log").read_text() == f"{tmp_path} b ''\n"


def test_signals_that_its_owner_ignores_or_blocks_reach_a_child() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        ignored = Child(python("import time; time.sleep(600)"))
    finally:
        signal.signal(signal.SIGCHLD, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert ignored.stop() == -signal.SIGTERM


def test_ctrl_c_in_a_terminal_does_not_reach_a_child() -> None:
    # A terminal signals the group in its foreground, which a process of another session is not in.
    said: list[str] = []
    with Child(python("import os; print(os.getsid(0) == os.getpid())"), stdout=said.append) as own:
        own.wait(WAIT_SECONDS)
    assert said[0] == "True\n"


def test_a_program_that_is_not_there_is_an_error_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        Child([str(folder / "no-such-program")], folder=folder)
    assert not folder.exists()
