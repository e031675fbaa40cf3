"""Files of a tree, replaced all or none. Standard library only."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

Files = dict[str, bytes]
"""Path below a folder -> content."""


def read_folder(folder: Path) -> Files:
    """Every Python file below a folder; empty if there is none."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}


def replace_files(tree: Path, changes: Mapping[str, bytes]) -> None:
    """Write all `changes` or, with an `OSError`, none. Each file keeps its mode."""
    before = {path: (tree / path).read_bytes() for path in changes}
    written: list[str] = []
    try:
        for path, text in changes.items():
            _write(tree / path, text)
            written.append(path)
    except OSError:
        for path in written:
            _write(tree / path, before[path])
        raise


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> Callable[[], None]:
    """Have a folder hold these files and nothing else; without files there is no folder.

    Returns what brings back its Python files as they were. Raises `OSError`.
    """
    before = read_folder(folder)
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for path, text in files.items():
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    if files:
        fresh.rename(folder)
    return lambda: _again(folder, before)


def _again(folder: Path, files: Mapping[str, bytes]) -> None:
    replace_folder(folder, files)


def _write(path: Path, text: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_bytes(text)
        shutil.copymode(path, fresh)
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
