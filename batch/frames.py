"""Jobs from frames: a picture is a job, which keeps its name and its place."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from .errors import InputError
from .jobs import Job, check_names
from .workflow import Target, Workflow

PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))

LOADER = ("LoadImage", "image")
"""The class and the input that take a frame unless another input is named."""


def find_frames(text: str) -> list[Path]:
    """The pictures in a folder, or those that a pattern such as "shot/*.png" fits, in order.

    Raises `InputError` if there are none.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    else:
        found = [Path(path) for path in glob.glob(str(folder)) if Path(path).is_file()]
    if not found:
        raise InputError(
            f"There are no frames in {text!r}. Name a folder with pictures "
            f"({' '.join(sorted(PICTURES))}), a pattern in quotes such as 'shot/*.png', or a video."
        )
    return in_order(found)


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Paths as people count: frame2 before frame10."""
    return sorted(paths, key=lambda path: (_natural(path.stem), path.suffix))


def frame_jobs(workflow: Workflow, frames: Sequence[Path], column: str) -> list[Job]:
    """A job for each frame, in their order, named like its file.

    `column` names the input that takes the frame; "" means the one LoadImage. Raises `InputError`.
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
        raise InputError(
            f"The workflow has {len(nodes)} nodes {kind}, so that it is not clear where frames go. "
            f"Name the input: --frames-input NODE.INPUT.\n{workflow.described()}"
        )
    return Target(nodes[0], name)


def _natural(text: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part]
