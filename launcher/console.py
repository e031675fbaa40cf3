"""What the launcher says on the terminal, and the commands that it runs there quietly."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import FALLBACK_REMEDY, SetupError, remedy_for

LINES_SHOWN = 12
"""Of what a failed command printed: the last ones."""


def say(message: str) -> None:
    """Write one line to standard output at once, also when it is a pipe."""
    print(message, flush=True)


def warn(message: str) -> None:
    """Write one line that a reader must not overlook to standard error."""
    print(f"!! {message}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step that takes a while, and say how many seconds it took."""
    say(f"-- {title} ...")
    began = time.monotonic()
    yield
    say(f"   done in {time.monotonic() - began:.1f} s")


def run_command(
    what: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run `command` to its end and return what it printed (both streams together).

    Raises `SetupError` naming the command and a remedy if it cannot be started or fails.
    """
    try:
        done = subprocess.run(
            list(command),
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise _not_started(what, command, error) from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-LINES_SHOWN:])
        raise SetupError(
            f"{what} failed (exit status {done.returncode}).",
            why=tail,
            remedy=remedy_for(done.stdout),
            command=command,
        )
    return done.stdout


def _not_started(what: str, command: Sequence[str], error: OSError) -> SetupError:
    if not isinstance(error, FileNotFoundError):
        text = f"{what}: the command could not be started."
        return SetupError(text, why=str(error), remedy=FALLBACK_REMEDY, command=command)
    return SetupError(
        f"{what}: the program {command[0]!r} is not installed.",
        why=str(error),
        remedy=f"Install it, for example: sudo apt install {Path(command[0]).name}",
        command=command,
    )
