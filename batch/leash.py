"""Runs a program that ends with the process that asked for it. Standard library only.

usage: leash.py PARENT FOLDER PROGRAM ARGUMENTS...

However PARENT (a process id) ends, the program is killed and FOLDER is removed; however this
process ends, the kernel kills the program. An interrupt is passed on to it, and being told to
terminate kills it. It has a session of its own, so that the terminal's interrupt reaches PARENT
alone, which then stops it in order.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from types import FrameType

POLL_SECONDS = 0.5

PR_SET_PDEATHSIG = 1
"""Of prctl(2): which signal comes when the parent's thread ends; this process has just one."""


def end_with_parent() -> None:
    """Runs in the program's process before it becomes the program.

    Ray, for one, kills the children of a process that it ends, and not theirs.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Leash:
    """The program, and the signals for it, which may come before it runs."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        signal.signal(signal.SIGINT, self._pass_on)
        signal.signal(signal.SIGTERM, self._pass_on)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if self.child is None:
            self._early.append(number)
        else:
            self.child.send_signal(signal.SIGKILL if number == signal.SIGTERM else number)

    def run(self, parent: int, folder: str, command: list[str]) -> int:
        """Run the program to its end; returns its status."""
        os.setsid()
        self.child = subprocess.Popen(command, preexec_fn=end_with_parent)
        for number in self._early:
            self._pass_on(number, None)
        while True:
            try:
                return self.child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if os.getppid() != parent:
                    self.child.kill()
                    self.child.wait()
                    shutil.rmtree(folder, ignore_errors=True)
                    return 1


if __name__ == "__main__":
    sys.exit(Leash().run(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
