"""Results on disk: named after their job, whole or not there, and never overwritten."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import BatchInputError
from .jobs import Job
from .manifest import ManifestRow, ResultFile, is_finished

WORK = ".batch"
"""Below the folder of results: what is not finished yet, and the lock."""


@dataclass(frozen=True)
class Output:
    node: str
    """The id of the node that saved it."""
    name: str
    """What the server called it."""
    data: bytes


@dataclass(frozen=True)
class Staged:
    """A job's results, written but not in their place yet."""

    draft: Path
    final: Path
    files: list[ResultFile]

    def place(self) -> None:
        """Move them to their place, all at once. Raises `FileExistsError` if it is taken."""
        if self.final.exists():
            raise FileExistsError(f"{self.final} is there already, and is not overwritten.")
        os.rename(self.draft, self.final)


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Make the folder of results, and hold it against another batch. Raises `BatchInputError`."""
    work = folder / WORK
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BatchInputError(
                f"Another batch writes to {folder} now. Wait for it, or choose another --output."
            ) from error
        shutil.rmtree(work / "drafts", ignore_errors=True)
        (work / "drafts").mkdir()
        yield


def stage(folder: Path, job: str, outputs: Sequence[Output]) -> Staged:
    """Write a job's results beside their place: one file JOB.png, or several in a folder JOB.

    The folder's files are called NODE-001.png and so on, in the order of the node's results.
    """
    drafts = folder / WORK / "drafts"
    if len(outputs) == 1:
        name = job + Path(outputs[0].name).suffix.lower()
        draft = drafts / name
        _write(draft, outputs[0].data)
        return Staged(draft, folder / name, [_row(name, outputs[0])])
    draft = drafts / job
    draft.mkdir()
    files, counted = [], dict.fromkeys((output.node for output in outputs), 0)
    for output in outputs:
        counted[output.node] += 1
        node = output.node.replace(":", "_").replace("/", "_")
        name = f"{node}-{counted[output.node]:03}{Path(output.name).suffix.lower()}"
        _write(draft / name, output.data)
        files.append(_row(f"{job}/{name}", output))
    return Staged(draft, folder / job, files)


def find_missing(
    jobs: Sequence[Job], known: Mapping[str, ManifestRow], folder: Path
) -> tuple[list[Job], list[str]]:
    """The jobs that are still to be done, and the names of files that were made for others.

    `known` is the manifest. A job with the same name but another prompt, whose results are there,
    is of the second kind, and so is a file that a job would be written to and no line tells of.
    """
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    stems: dict[str, list[str]] = {}
    for name in there:
        stems.setdefault(name, []).append(name)
        if Path(name).suffix:
            stems.setdefault(Path(name).stem, []).append(name)
    todo: list[Job] = []
    taken: list[str] = []
    for job in jobs:
        row = known.get(job.name)
        if is_finished(row, folder):
            if row is not None and row["digest"] != job.digest:
                taken.append(row["files"][0]["name"])
            continue
        todo.append(job)
        taken += stems.get(job.name, [])
    return todo, sorted(set(taken))


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _row(name: str, output: Output) -> ResultFile:
    digest = hashlib.sha256(output.data).hexdigest()
    return {"name": name, "node": output.node, "bytes": len(output.data), "sha256": digest}
