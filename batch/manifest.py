"""What became of each job, a JSON object a line: the record that an interrupted batch resumes by.

A finished job's line is written before its files take their places. So a file that stands there has
a line, and a line whose file is missing stands for work that is to be done again.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypedDict

from .errors import BatchInputError

FILE = "manifest.jsonl"
DONE, FAILED = "done", "failed"


class ResultFile(TypedDict):
    """A file of a job that is done."""

    name: str
    """Below the folder of results."""
    node: str
    bytes: int
    sha256: str


class ManifestRow(TypedDict, total=False):
    """One line: every one has a job, its status, digest and time."""

    job: str
    status: str
    digest: str
    time: str
    host: str
    """The server that did the job."""
    tries: int
    files: list[ResultFile]
    errors: list[list[str]]
    """Of a job that failed: the servers that tried it, and what each said."""


def read_manifest(folder: Path) -> dict[str, ManifestRow]:
    """The last line of each job, by its name; nothing where there is no manifest.

    A line that was not finished when a batch was ended counts as not written.
    Raises `BatchInputError`.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    found: dict[str, ManifestRow] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
            found[row["job"]] = row
        except (ValueError, KeyError, TypeError) as error:
            raise BatchInputError(
                f"{path}, line {number}, is no record of a job. Choose another --output, or remove "
                "that line."
            ) from error
    return found


class Manifest:
    """The open file; lines are on disk when `add` returns."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, row: ManifestRow) -> None:
        self._file.write(json.dumps(row, ensure_ascii=True).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_manifest(folder: Path) -> Iterator[Manifest]:
    """The manifest of a folder, ready for more lines; an unfinished last line is cut off."""
    path = folder / FILE
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        yield Manifest(file)


def is_finished(row: ManifestRow | None, folder: Path) -> bool:
    """Whether a job's line says that it is done, and all its files are there in full."""
    if row is None or row.get("status") != DONE:
        return False
    return all(
        (folder / file["name"]).is_file()
        and (folder / file["name"]).stat().st_size == file["bytes"]
        for file in row["files"]
    )
