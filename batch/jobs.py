"""One job: a prompt with a name, and the files of this machine that it is sent with."""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError
from .workflow import Target

_NAME = re.compile(r"\w(?:[\w .()+,=@#-]{0,118}[\w)+=@#-])?")


@dataclass(frozen=True)
class Job:
    """What one host is asked at once."""

    name: str
    """What its results are called."""
    prompt: Mapping[str, Any]
    """The workflow in API format; an input in `files` has a placeholder there."""
    files: Mapping[Target, Path] = field(default_factory=dict)
    """Inputs that name a file, which goes to the host with the prompt."""

    @functools.cached_property
    def digest(self) -> str:
        """What decides the result, in short: the prompt, and size and time of each file.

        Raises `InputError` if a file is not there.
        """
        parts = []
        for target, path in sorted(self.files.items(), key=lambda row: str(row[0])):
            try:
                found = path.stat()
            except OSError as error:
                raise InputError(f"Job {self.name!r}: {path} cannot be read: {error}") from error
            parts.append([str(target), str(path), found.st_size, found.st_mtime_ns])
        text = json.dumps([self.prompt, parts], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def check_names(jobs: Iterable[Job]) -> None:
    """Raises `InputError` if a job's name cannot be a file's, or two jobs have the same."""
    seen: set[str] = set()
    for job in jobs:
        if not _NAME.fullmatch(job.name):
            raise InputError(
                f"{job.name!r} cannot name a job: it becomes a file's name. Begin with a letter or "
                "digit, and use letters, digits, spaces and .()+,=@#_- (120 at most)."
            )
        if job.name in seen:
            raise InputError(f"Two jobs are called {job.name!r}. Give each a name of its own.")
        seen.add(job.name)
