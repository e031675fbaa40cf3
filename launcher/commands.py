"""Run one command of the set-up, quietly, and explain it when it fails."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import FALLBACK_REMEDY, SetupError, remedy_for

LINES_SHOWN = 12


def run(
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
    except FileNotFoundError as error:
        program = command[0]
        raise SetupError(
            f"{what}: the program {program!r} is not installed.",
            why=str(error),
            remedy=f"Install it, for example: sudo apt install {Path(program).name}",
            command=command,
        ) from error
    except OSError as error:
        raise SetupError(
            f"{what}: the command could not be started.",
            why=str(error),
            remedy=FALLBACK_REMEDY,
            command=command,
        ) from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-LINES_SHOWN:])
        raise SetupError(
            f"{what} failed (exit status {done.returncode}).",
            why=tail,
            remedy=remedy_for(done.stdout),
            command=command,
        )
    return done.stdout
