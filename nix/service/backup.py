"""Save folders of a ComfyUI in an archive: backup.py --target DIR --keep N BASE FOLDER...

Databases are copied with SQLite's own backup, so that a server which writes at that moment does no
harm. An archive gets its name when it is whole; older ones are deleted only then.
"""

import argparse
import re
import sqlite3
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

# What SQLite keeps beside a database belongs to the running server.
COMPANIONS = ("-journal", "-shm", "-wal")

DATABASE = b"SQLite format 3\0"


def copy_database(database: Path, scratch: Path) -> Path:
    """A consistent copy of an SQLite database, made in the folder `scratch`."""
    copy = scratch / database.name
    copy.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    return copy


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes."""
    if path.is_symlink():
        return False
    with path.open("rb") as stream:
        return stream.read(len(DATABASE)) == DATABASE


def files(base: Path, folders: Sequence[str]) -> list[Path]:
    """What is saved of the folders below `base`: files and links, no parts of databases."""
    found = [path for name in folders for path in sorted((base / name).rglob("*"))]
    return [
        path
        for path in found
        if (path.is_symlink() or path.is_file()) and not path.name.endswith(COMPANIONS)
    ]


def save(base: Path, folders: Sequence[str], archive: Path) -> int:
    """Write the archive; returns how many files it holds."""
    saved = files(base, folders)
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(archive, "w:gz") as tar:
        for path in saved:
            source = copy_database(path, Path(scratch)) if is_database(path) else path
            tar.add(source, arcname=path.relative_to(base).as_posix(), recursive=False)
    return len(saved)


def prune(target: Path, stem: str, keep: int) -> list[Path]:
    """Delete all but the newest `keep` archives of this ComfyUI; returns what was deleted."""
    # "arc-2-20250101T000000" is another ComfyUI's.
    own = re.compile(re.escape(stem) + r"-\d{8}T\d{6}\.tar\.gz")
    old = sorted(path for path in target.iterdir() if own.fullmatch(path.name))[:-keep]
    for archive in old:
        archive.unlink()
    return old


def main(argv: Sequence[str]) -> int:
    """Make an archive and delete old ones; returns the exit status."""
    parser = argparse.ArgumentParser(description="Save folders of a ComfyUI in an archive.")
    parser.add_argument("--target", type=Path, required=True, help="where archives are kept")
    parser.add_argument("--keep", type=int, required=True, help="how many archives are kept")
    parser.add_argument("base", type=Path, help="ComfyUI's base directory")
    parser.add_argument("folders", nargs="+", help="folders below it")
    given = parser.parse_args(argv)
    stem = given.base.name
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    archive = given.target / f"{stem}-{moment}.tar.gz"
    part = archive.with_suffix(".part")
    try:
        number = save(given.base, given.folders, part)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        sys.stderr.write(f"{given.base} was not saved: {error}. Older archives are untouched.\n")
        return 1
    part.rename(archive)
    pruned = prune(given.target, stem, given.keep)
    sys.stdout.write(f"{archive}: {number} files; {len(pruned)} older archives deleted\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
