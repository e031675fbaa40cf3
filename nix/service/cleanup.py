"""Delete old files of a ComfyUI: cleanup.py --days N BASE FOLDER..."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

DAY = 24 * 60 * 60


def old_files(folder: Path, before: float) -> Iterator[Path]:
    """The files below `folder` that were last changed before a moment; links are not followed."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_dir():
            continue
        if path.stat().st_mtime < before:
            yield path


def clean(folder: Path, before: float) -> tuple[int, int]:
    """Delete old files and the folders that they leave empty; returns their number and bytes."""
    size = 0
    deleted = list(old_files(folder, before))
    for path in deleted:
        size += path.stat().st_size
        path.unlink()
    emptied = {parent for path in deleted for parent in path.parents if folder in parent.parents}
    for parent in sorted(emptied, reverse=True):
        if not any(parent.iterdir()):
            parent.rmdir()
    return len(deleted), size


def main(argv: Sequence[str]) -> int:
    """Clean every folder that is named; returns the exit status."""
    parser = argparse.ArgumentParser(description="Delete old files of a ComfyUI.")
    parser.add_argument("--days", type=int, required=True, help="keep what was changed since")
    parser.add_argument("base", type=Path, help="ComfyUI's base directory")
    parser.add_argument("folders", nargs="+", help="folders below it")
    given = parser.parse_args(argv)
    before = time.time() - given.days * DAY
    for name in given.folders:
        folder = given.base / name
        # A link out of the base directory is not ComfyUI's to clean.
        if folder.is_symlink() or not folder.is_dir():
            sys.stdout.write(f"{folder}: no such folder\n")
            continue
        number, size = clean(folder, before)
        sys.stdout.write(f"{folder}: {number} files deleted, {size >> 20} MiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
