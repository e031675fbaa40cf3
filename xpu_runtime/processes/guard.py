"""Stands between a process and the program that it started: see `child.py`. Standard library only.

usage: guard.py REPORT SIGNAL SECONDS FOLDER PROGRAM ARGUMENTS...

Standard input is a pipe that only the owner holds. Its lines are orders: "end", "kill", "signal N".
Its end means that the owner has let go, or is gone, however that happened. REPORT is a pipe to the
owner: "pid N" or "error ERRNO TEXT" at the start, and "status N" once the program and all that it
had started have ended. FOLDER ("" for none) is removed when the owner has let go after that.

On Linux this process adopts what the program leaves behind, and the kernel kills the program if
this process is killed. On Windows a Job object does both; that half was never run.
"""

import ctypes
import math
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

END, KILL, EXITED = "end", "kill", "exited"

OWNER_SECONDS = 1.0
"""How often to look for the owner: where it has forked, a copy of it holds the pipe."""

REST_SECONDS = 2.0
"""What the program left behind may take to end when it is told to. Then it is killed."""

LOST_SECONDS = 5.0
"""What was killed and stays so long hangs in the kernel, and is not waited for."""

if sys.platform == "win32":
    from ctypes import wintypes

    _KERNEL = ctypes.WinDLL("kernel32", use_last_error=True)
    _PROCESS_LIST, _EXTENDED_LIMITS = 3, 9
    _KILL_ON_JOB_CLOSE = 0x2000
    _MOST_PROCESSES = 1024

    class _Limits(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION; only the flags are set."""

        _fields_ = [
            ("times", ctypes.c_int64 * 2),
            ("flags", wintypes.DWORD),
            ("sizes", ctypes.c_size_t * 2),
            ("active", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("classes", wintypes.DWORD * 2),
            ("counters", ctypes.c_uint64 * 6),
            ("memory", ctypes.c_size_t * 4),
        ]

    class _ProcessList(ctypes.Structure):
        """JOBOBJECT_BASIC_PROCESS_ID_LIST."""

        _fields_ = [
            ("assigned", wintypes.DWORD),
            ("listed", wintypes.DWORD),
            ("processes", ctypes.c_size_t * _MOST_PROCESSES),
        ]

    _KERNEL.CreateJobObjectW.restype = wintypes.HANDLE
    _KERNEL.GetCurrentProcess.restype = wintypes.HANDLE
    for _name in ("AssignProcessToJobObject", "SetInformationJobObject"):
        getattr(_KERNEL, _name).restype = wintypes.BOOL
    _KERNEL.AssignProcessToJobObject.argtypes = [wintypes.HANDLE, wintypes.HANDLE]
    _KERNEL.SetInformationJobObject.argtypes = [
        *(wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD)
    ]
    _KERNEL.QueryInformationJobObject.argtypes = [
        *(wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD, ctypes.c_void_p)
    ]

    def adopt_descendants() -> None:
        """Put this process into a job: what it starts is in it, and ends when it ends."""
        job = _KERNEL.CreateJobObjectW(None, None)
        limits = _Limits(flags=_KILL_ON_JOB_CLOSE)
        size = ctypes.sizeof(limits)
        if not _KERNEL.SetInformationJobObject(job, _EXTENDED_LIMITS, ctypes.byref(limits), size):
            raise ctypes.WinError(ctypes.get_last_error())
        if not _KERNEL.AssignProcessToJobObject(job, _KERNEL.GetCurrentProcess()):
            raise ctypes.WinError(ctypes.get_last_error())

    def children() -> list[int]:
        """All processes of the job but this one. (None stands for the caller's own job.)"""
        found = _ProcessList()
        size = ctypes.sizeof(found)
        _KERNEL.QueryInformationJobObject(None, _PROCESS_LIST, ctypes.byref(found), size, None)
        return [one for one in found.processes[: found.listed] if one != os.getpid()]

    def start_options() -> dict[str, Any]:
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def send(process: int, number: int) -> None:
        """There is one signal that a program may act upon; every other one ends it."""
        gentle = number in (signal.SIGINT, signal.CTRL_BREAK_EVENT)
        os.kill(process, signal.CTRL_BREAK_EVENT if gentle else signal.SIGTERM)

    def open_report(passed: int) -> int:
        """The file descriptor of the handle that the owner has passed on."""
        import msvcrt

        return msvcrt.open_osfhandle(passed, os.O_WRONLY)

    KILL_SIGNAL = signal.SIGTERM

else:
    KILL_SIGNAL = signal.SIGKILL

    _PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
    """Of prctl(2)."""

    _prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def adopt_descendants() -> None:
        """Become the parent of what the program's processes leave behind, in whatever session."""
        if _prctl is not None:
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def children() -> list[int]:
        """This process's children. Theirs become its own when they end."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name before it may hold spaces and brackets.
                fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.append(int(stat.parent.name))
        return found

    def start_options() -> dict[str, Any]:
        """Options of `Popen` for the program: a session of its own, and the kernel's promise.

        The promise holds for the thread that starts the program, which is the main one.
        """
        guard = os.getpid()

        def end_with_guard() -> None:
            if _prctl is not None:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:
                os._exit(1)

        return {"start_new_session": True, "preexec_fn": end_with_guard}

    def send(process: int, number: int) -> None:
        """Send a signal; nothing where the process has ended."""
        try:
            os.kill(process, number)
        except ProcessLookupError:
            return

    def open_report(passed: int) -> int:
        return passed


class Guard:
    """The program's life, told by events that several threads put into one queue."""

    def __init__(self, report: int, number: int, patience: float, folder: str) -> None:
        self._report = report
        self._number = number
        self._patience = patience
        self._folder = folder
        self._owner = os.getppid()
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._let_go = False
        self._status: int | None = None
        self._empty = threading.Event()
        """Set when no child is left."""
        if sys.platform != "win32":
            # An owner's choices that this process and the program must not inherit.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGINT, lambda *_: None)  # ignored, the program would ignore it too
        # A guard around this one tells it to end at once, and to clean up.
        signal.signal(signal.SIGTERM, lambda *_: self._events.put(KILL))

    def start_and_end(self, command: list[str]) -> None:
        """Start the program, and stay until it has ended and the owner has let go."""
        try:
            adopt_descendants()
            program = subprocess.Popen(command, stdin=subprocess.DEVNULL, **start_options())
        except OSError as error:
            self._tell(f"error {error.errno} {error.strerror}")
        else:
            self._tell(f"pid {program.pid}")
            _let_go_of_output()
            threading.Thread(target=self._hear, daemon=True).start()
            threading.Thread(target=self._reap, args=(program,), daemon=True).start()
            self._watch(program.pid)
            self._end_the_rest()
            self._tell(f"status {self._status}")
            while not self._let_go:
                self._next(math.inf)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _watch(self, program: int) -> None:
        deadline = math.inf
        asked = False
        while self._status is None:
            event = self._next(deadline)
            if event.startswith("signal"):
                send(program, int(event.partition(" ")[2]))
            elif event == END and not asked:
                asked = True
                deadline = time.monotonic() + self._patience
                send(program, self._number)
            elif event == KILL:
                deadline = math.inf
                send(program, KILL_SIGNAL)

    def _next(self, deadline: float) -> str:
        """The next event: an order, EXITED, or KILL at the deadline."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return KILL
            try:
                return self._events.get(timeout=min(OWNER_SECONDS, left))
            except queue.Empty:
                if not self._let_go and os.getppid() != self._owner:
                    self._let_go = True
                    return END

    def _hear(self) -> None:
        """The thread that reads orders."""
        with os.fdopen(0, encoding="ascii") as orders:
            for line in orders:
                self._events.put(line.strip())
        self._let_go = True
        self._events.put(END)

    def _reap(self, program: "subprocess.Popen[bytes]") -> None:
        """The thread that waits for the program, and for what it leaves behind."""
        if sys.platform == "win32":
            self._status = program.wait()
            self._events.put(EXITED)
            while children():
                time.sleep(0.02)
        else:
            while True:
                try:
                    process, status = os.waitpid(-1, 0)
                except ChildProcessError:
                    break
                if process == program.pid:
                    self._status = os.waitstatus_to_exitcode(status)
                    self._events.put(EXITED)
        self._empty.set()

    def _end_the_rest(self) -> None:
        """End what the program left behind, with what that has started."""
        began = time.monotonic()
        asked: set[int] = set()
        while not self._empty.wait(0.02):
            spent = time.monotonic() - began
            if spent > REST_SECONDS + LOST_SECONDS:
                return
            for process in children():
                if spent > REST_SECONDS:
                    send(process, KILL_SIGNAL)
                elif process not in asked:
                    asked.add(process)
                    send(process, signal.SIGTERM)

    def _tell(self, text: str) -> None:
        try:
            os.write(self._report, f"{text}\n".encode())
        except BrokenPipeError:
            return  # the owner is gone


def _let_go_of_output() -> None:
    """These are the program's: who reads them must see their end when it ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


if __name__ == "__main__":
    Guard(
        open_report(int(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    ).start_and_end(sys.argv[5:])
