"""One child process: started, watched, and ended with its owner, however the owner ends.

Between the owner and the program stands `guard.py`, a process of its own. It ends the program, and
all that the program has started, when the owner lets go: by `stop`, by its exit, or because it was
killed. Standard library only, and no host: the launcher runs before either is there.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

GUARD = Path(__file__).with_name("guard.py")

END_SECONDS = 15.0
"""How long a child that is asked to end may take, unless its owner says so; then it is killed."""

KILL_SECONDS = 10.0
"""How long one that was killed is waited for. After that it hangs in the kernel."""

SLICE_SECONDS = 0.5
"""Waits are cut into slices: on Windows, Ctrl+C does not end one."""

LineTaker = Callable[[str], object]
"""Takes each line of a stream, with its line end, and "" at the end. Called in a thread."""

Stream = IO[Any] | int | LineTaker | None
"""Where a child writes: a file, a taker of lines, or None for the owner's own stream."""


class Child:
    """A program that runs; a context manager that stops it. `stop` may be called in any thread.

    It has a session of its own: Ctrl+C in a terminal reaches its owner alone, which decides. Its
    standard input is empty. `stderr` may be `subprocess.STDOUT`: where `stdout` goes.

    It is asked to end by `end_signal`, and killed `end_seconds` later; also when the owner is
    gone. `folder` is the child's from now on: it is removed when all of this is over.

    Raises `OSError` if the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: Stream = None,
        stderr: Stream = None,
        end_signal: int = signal.SIGTERM,
        end_seconds: float = END_SECONDS,
        folder: Path | None = None,
    ) -> None:
        self._end_seconds = end_seconds
        self._folder = folder
        self._status: int | None = None
        self._ended = threading.Event()
        # A handler of signals may give an order while another one is given.
        self._orders = threading.RLock()
        read, write = os.pipe()
        report = os.fdopen(read, encoding="utf-8")
        arguments = [str(int(end_signal)), str(end_seconds), str(folder or ""), *command]
        try:
            self._guard = _start_guard(
                write,
                arguments,
                env=environment,
                cwd=cwd,
                stdout=subprocess.PIPE if callable(stdout) else stdout,
                stderr=subprocess.PIPE if callable(stderr) else stderr,
            )
        except BaseException:
            report.close()
            raise
        finally:
            os.close(write)
        try:
            self.pid = _read_start(report, command[0])
        except BaseException:
            self._let_go()
            report.close()
            raise
        self._threads = [threading.Thread(target=self._follow, args=(report,), daemon=True)]
        for pipe in ((self._guard.stdout, stdout), (self._guard.stderr, stderr)):
            if callable(pipe[1]):
                self._threads.append(threading.Thread(target=_hand_on, args=pipe, daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def status(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while anything of it runs."""
        return self._status

    def wait(self, seconds: float | None = None) -> int | None:
        """`status`, when it has ended, or after so many seconds."""
        deadline = None if seconds is None else time.monotonic() + seconds
        left = SLICE_SECONDS
        while left > 0 and not self._ended.wait(min(left, SLICE_SECONDS)):
            left = SLICE_SECONDS if deadline is None else deadline - time.monotonic()
        return self._status

    def send_signal(self, number: int) -> None:
        """Send a signal to the program alone, if it runs."""
        self._order(f"signal {int(number)}")

    def ask_to_end(self) -> None:
        """Ask it to end, once; returns at once. It is killed if it takes too long."""
        self._order("end")

    def kill(self) -> None:
        """Kill it and all that it has started; returns at once."""
        self._order("kill")

    def stop(self) -> int | None:
        """End it and all that it has started; `status`, which is None if it hangs in the kernel.

        What interrupts this, such as Ctrl+C pressed again, kills it.
        """
        try:
            self.ask_to_end()
            return self.wait(self._end_seconds + KILL_SECONDS)
        except BaseException:
            self.kill()
            self.wait(KILL_SECONDS)
            raise
        finally:
            self._let_go()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _order(self, text: str) -> None:
        with self._orders:
            orders = self._guard.stdin
            if orders is not None and not orders.closed:
                with contextlib.suppress(OSError):  # it has ended
                    os.write(orders.fileno(), f"{text}\n".encode())

    def _let_go(self) -> None:
        """Have the guard end, and with it what is left of the child."""
        with self._orders:
            if self._guard.stdin is not None:
                self._guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(KILL_SECONDS)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # if the guard was killed
        for thread in getattr(self, "_threads", ()):
            thread.join(KILL_SECONDS)

    def _follow(self, report: IO[str]) -> None:
        """The thread that reads what the guard reports."""
        with report:
            words = report.readline().split()
        if words:
            self._status = int(words[1])
        else:
            # The guard was killed. The kernel has killed the program, and this does the rest.
            if sys.platform != "win32":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            self._status = -9
        self._ended.set()


def _start_guard(
    report: int, arguments: Sequence[str], **options: Any
) -> "subprocess.Popen[bytes]":
    """Start the guard, with one end of a pipe passed on to it."""
    passed = report
    if sys.platform == "win32":
        import msvcrt

        passed = msvcrt.get_osfhandle(report)
        os.set_handle_inheritable(passed, True)
        options["startupinfo"] = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [passed]})
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        options["pass_fds"] = (report,)
        options["start_new_session"] = True
    command = [sys.executable, "-I", "-S", str(GUARD), str(passed), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, **options)


def _read_start(report: IO[str], program: str) -> int:
    """The program's process id. Raises `OSError` if it was not started."""
    kind, _, rest = report.readline().strip().partition(" ")
    if kind == "pid":
        return int(rest)
    number, _, text = rest.partition(" ")
    raise OSError(int(number or 0), text or "what guards it has ended", program)


def _hand_on(stream: IO[bytes], take: LineTaker) -> None:
    with io.TextIOWrapper(stream, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            take(line)
    take("")
