"""Jobs: prompts with a name, and the files of this machine that they are sent with.

Jobs from frames: a picture is a job, which keeps its name and its place.
"""

import functools
import glob
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BatchInputError
from .workflow import Prompt, Target, Workflow

PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))

LOADER = ("LoadImage", "image")
"""The class and the input that take a frame unless another input is named."""

_NAME = re.compile(r"\w(?:[\w .()+,=@#-]{0,118}[\w)+=@#-])?")


@dataclass(frozen=True)
class Job:
    """What one server is asked at once."""

    name: str
    """What its results are called."""
    prompt: Prompt
    """The workflow in API format; an input in `files` has a placeholder there."""
    files: Mapping[Target, Path] = field(default_factory=dict)
    """Inputs that name a file, which goes to the server with the prompt."""

    @functools.cached_property
    def digest(self) -> str:
        """What decides the result, in short: the prompt, and size and time of each file.

        Raises `BatchInputError` if a file is not there.
        """
        parts = []
        for target, path in sorted(self.files.items(), key=lambda row: str(row[0])):
            try:
                found = path.stat()
            except OSError as error:
                raise BatchInputError(
                    f"Job {self.name!r}: {path} cannot be read: {error}"
                ) from error
            parts.append([str(target), str(path), found.st_size, found.st_mtime_ns])
        text = json.dumps([self.prompt, parts], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def check_names(jobs: Iterable[Job]) -> None:
    """Raises `BatchInputError` if a job's name cannot be a file's, or two jobs have the same."""
    seen: set[str] = set()
    for job in jobs:
        if not _NAME.fullmatch(job.name):
            raise BatchInputError(
                f"{job.name!r} cannot name a job: it becomes a file's name. Begin with a letter or "
                "digit, and use letters, digits, spaces and .()+,=@#_- (120 at most)."
            )
        if job.name in seen:
            raise BatchInputError(f"Two jobs are called {job.name!r}. Give each a name of its own.")
        seen.add(job.name)


def find_frames(text: str) -> list[Path]:
    """The pictures in a folder, or those that a pattern such as "shot/*.png" fits, in order.

    Raises `BatchInputError` if there are none.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    else:
        found = [Path(path) for path in glob.glob(str(folder)) if Path(path).is_file()]
    if not found:
        raise BatchInputError(
            f"There are no frames in {text!r}. Name a folder with pictures "
            f"({' '.join(sorted(PICTURES))}), a pattern in quotes such as 'shot/*.png', or a video."
        )
    return sort_naturally(found)


def sort_naturally(paths: Sequence[Path]) -> list[Path]:
    """Paths as people count: frame2 before frame10."""
    return sorted(paths, key=lambda path: (_natural(path.stem), path.suffix))


def frame_jobs(workflow: Workflow, frames: Sequence[Path], column: str) -> list[Job]:
    """A job for each frame, in their order, named like its file.

    `column` names the input that takes the frame; "" means the one LoadImage.
    Raises `BatchInputError`.
    """
    target = workflow.find(column) if column else _loader(workflow)
    jobs = [
        Job(path.stem, workflow.with_values({target: path.name}), {target: path.resolve()})
        for path in frames
    ]
    check_names(jobs)
    return jobs


def _loader(workflow: Workflow) -> Target:
    kind, name = LOADER
    nodes = workflow.of_class(kind)
    if len(nodes) != 1:
        raise BatchInputError(
            f"The workflow has {len(nodes)} nodes {kind}, so that it is not clear where frames go. "
            f"Name the input: --frames-input NODE.INPUT.\n{workflow.describe()}"
        )
    return Target(nodes[0], name)


def _natural(text: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part]
