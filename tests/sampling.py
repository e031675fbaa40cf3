"""What a run takes of what takes long: the same for the same commit, and told at its end.

`share` takes what was changed since the merge base with the main branch first, and the rest by
the commit's id, so that in time every case has its turn. `--campaign` runs them all.
"""

import functools
import hashlib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

MAIN = ("origin/main", "main")
"""What a commit is compared with: the first of them that there is."""


@dataclass(frozen=True)
class Share:
    """Some of many cases."""

    about: str
    """What the cases are."""
    taken: tuple[str, ...]
    number: int
    """How many there are."""

    def line(self) -> str:
        """What the run says at its end."""
        return f"{self.about}: {len(self.taken)} of {self.number}: {', '.join(self.taken)}"


SHARES: dict[str, Share] = {}
"""The shares that this process has taken, by what they are about."""


def git(*arguments: str) -> str:
    """What git says of this repository; "" where it can say nothing, as in an unpacked archive."""
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def commit() -> str:
    """The id of the commit that is tested, "" if there is none."""
    return git("rev-parse", "HEAD")


@functools.cache
def changed() -> frozenset[str]:
    """The files that differ from the merge base with the main branch; none on that branch."""
    base = next(filter(None, (git("merge-base", "HEAD", name) for name in MAIN)), "")
    return frozenset(git("diff", "--name-only", base).splitlines()) if base else frozenset()


def share(
    about: str,
    cases: Sequence[str],
    number: int,
    always: Sequence[str] = (),
    file_of: Callable[[str], str] = str,
) -> tuple[str, ...]:
    """`number` of the cases, in their order: `always` these, then those whose file was changed.

    `about` says what the cases are, and is told with the share at the end of the run. `file_of`
    gives the path of a case's file below the repository.
    """

    def rank(case: str) -> tuple[bool, bool, str]:
        by_commit = hashlib.sha256(f"{commit()} {about} {case}".encode()).hexdigest()
        return case not in always, file_of(case) not in changed(), by_commit

    chosen = sorted(cases, key=rank)[:number]
    taken = tuple(case for case in cases if case in chosen)
    SHARES[about] = Share(about, taken, len(cases))
    return taken


def lines() -> list[str]:
    """What this process has left out, a line for each kind."""
    return [one.line() for one in SHARES.values() if len(one.taken) < one.number]
