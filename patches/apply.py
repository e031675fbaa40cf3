#!/usr/bin/env python3
"""Patch a tree of ComfyUI v0.3.47 for Intel GPUs, or take the patches out again.

usage: patches/apply.py [--check] [--reverse] [--allow VERSION] TREE

Everything is worked out before the first file is written: a tree to which the series does not
apply line for line stays as it was. Running it again brings the runtime up to date and changes
nothing else. Standard library only.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from tree_files import Files, read_folder, replace_files, replace_folder  # noqa: E402

RELEASE = "0.3.47"
RUNTIME = FOLDER.parent / "xpu_runtime"
RUNTIME_IN_TREE = "comfy/xpu_runtime"


class PatchError(Exception):
    """Why a tree is left as it was, and what to do."""


class StaleError(PatchError):
    """A hunk whose lines are not in the file, or in more than one place."""


@dataclass(frozen=True)
class Hunk:
    """Lines as they are in the release, and the same lines with what is added between them."""

    path: str
    released: tuple[bytes, ...]
    patched: tuple[bytes, ...]

    def moved(self, text: bytes, reverse: bool) -> bytes:
        """`text` with the hunk put in, or taken out. Raises `StaleError`."""
        old, new = (self.patched, self.released) if reverse else (self.released, self.patched)
        lines = text.split(b"\n")
        places = [i for i in range(len(lines)) if tuple(lines[i : i + len(old)]) == old]
        if len(places) != 1:
            shown = b"\n".join(old).decode(errors="replace")
            raise StaleError(f"{self.path} has these lines {len(places)} times, not once:\n{shown}")
        lines[places[0] : places[0] + len(old)] = new
        return b"\n".join(lines)


@dataclass(frozen=True)
class Patch:
    """One file of the series."""

    name: str
    hunks: tuple[Hunk, ...]

    def moved(self, files: Files, reverse: bool) -> Files:
        """`files` with the patch put in, or taken out. Raises `StaleError`."""
        changed = dict(files)
        for hunk in self.hunks:
            try:
                changed[hunk.path] = hunk.moved(changed[hunk.path], reverse)
            except StaleError as error:
                raise StaleError(f"{self.name} does not apply: {error}") from error
        return changed

    def stands_in(self, files: Files) -> bool:
        """Whether the patch is in `files` already."""
        try:
            self.moved(files, reverse=True)
        except StaleError:
            return False
        return True


def parse(name: str, text: bytes) -> Patch:
    """A unified diff that only adds lines. Raises `PatchError` if it is anything else."""
    hunks: list[Hunk] = []
    path = ""
    released: list[bytes] = []
    patched: list[bytes] = []
    due = 0
    for line in text.split(b"\n"):
        kind, content = line[:1], line[1:]
        if due and kind in (b" ", b"+"):
            released += [content] if kind == b" " else []
            patched.append(content)
            due -= 1
            if not due:
                hunks.append(Hunk(path, tuple(released), tuple(patched)))
        elif due:
            raise PatchError(
                f"{name} has a line in a hunk that is neither kept nor added: {line!r}"
            )
        elif line.startswith(b"+++ b/"):
            path = line.removeprefix(b"+++ b/").decode()
        elif found := re.match(rb"@@ -\d+(?:,\d+)? \+\d+,(\d+) @@", line):
            released, patched, due = [], [], int(found[1])
    if due or not hunks:
        raise PatchError(f"{name} is no whole unified diff.")
    return Patch(name, tuple(hunks))


def read_series(folder: Path = FOLDER) -> list[Patch]:
    """The patches of a folder in their order. Raises `PatchError`."""
    names = (folder / "series").read_text(encoding="utf-8").split()
    return [parse(name, (folder / name).read_bytes()) for name in names]


def touched_files(folder: Path = FOLDER) -> dict[str, str]:
    """Path -> SHA-256 in the release, of every file that the series touches."""
    lines = (folder / "touched.sha256").read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def read_tree(tree: Path, paths: Sequence[str]) -> Files:
    """The files of a tree that the series touches. Raises `PatchError`."""
    try:
        return {path: (tree / path).read_bytes() for path in paths}
    except OSError as error:
        raise PatchError(f"{tree} is no complete ComfyUI: {error}") from error


def check_version(tree: Path, allowed: str | None) -> None:
    """Raise `PatchError` unless the tree is the release, or states the `allowed` version."""
    try:
        text = (tree / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError as error:
        raise PatchError(
            f"{tree} holds no ComfyUI: it has no comfyui_version.py. Name the folder that holds "
            "ComfyUI's main.py."
        ) from error
    found = re.search(r'__version__ = "([^"]+)"', text)
    version = found[1] if found else "unknown"
    wanted = RELEASE if allowed is None else allowed.removeprefix("v")
    if version != wanted:
        raise PatchError(
            f"{tree} is ComfyUI {version}, and the patches are made for v{RELEASE}. Check that "
            f"release out; or try with --allow {version}, which applies them only if every line "
            "fits, and whose result nobody has tested."
        )


def check_release(files: Files, digests: dict[str, str]) -> None:
    """Raise `PatchError` if a file, without the patches, is not the release's."""
    for path, digest in digests.items():
        if hashlib.sha256(files[path]).hexdigest() != digest:
            raise PatchError(
                f"{path} is not v{RELEASE}'s: it was changed, or a patch is in it that this "
                f"series does not know. Restore it (git checkout v{RELEASE} -- {path}); or try "
                f"with --allow {RELEASE}, which applies the patches only if every line fits."
            )


def without(series: Sequence[Patch], files: Files) -> Files:
    """`files` as they are without those patches of the series that stand in them."""
    for patch in reversed(series):
        if patch.stands_in(files):
            files = patch.moved(files, reverse=True)
    return files


def apply(tree: Path, allowed: str | None, write: bool) -> str:
    """Patch a tree; returns what was done, in words. Raises `PatchError`, then nothing was."""
    check_version(tree, allowed)
    series, digests = read_series(), touched_files()
    present = read_tree(tree, list(digests))
    released = without(series, present)
    if allowed is None:
        check_release(released, digests)
    patched = released
    for patch in series:
        patched = patch.moved(patched, reverse=False)
    changes = {path: text for path, text in patched.items() if text != present[path]}
    runtime = tree / RUNTIME_IN_TREE
    ours = read_folder(RUNTIME)
    renewed = read_folder(runtime) != ours
    if not write:
        return f"{tree}: {len(changes)} files would change."
    undo = replace_folder(runtime, ours) if renewed else None
    _or_undo(lambda: replace_files(tree, changes), undo)
    if changes:
        return f"{tree} is patched: {len(series)} patches, {len(changes)} files changed."
    return f"{tree} was patched already" + (", its runtime is renewed." if renewed else ".")


def take_out(tree: Path, write: bool) -> str:
    """Take the patches out of a tree; returns what was done. Raises `PatchError`."""
    series, digests = read_series(), touched_files()
    present = read_tree(tree, list(digests))
    released = without(series, present)
    for patch in series:
        # What neither stands in the file nor fits into it was changed since.
        patch.moved(released, reverse=False)
    changes = {path: text for path, text in released.items() if text != present[path]}
    if write:
        replace_files(tree, changes)
        replace_folder(tree / RUNTIME_IN_TREE, {})
        return f"{tree} is without the patches: {len(changes)} files restored."
    return f"{tree}: {len(changes)} files would be restored."


def _or_undo(call: Callable[[], None], undo: Callable[[], None] | None) -> None:
    try:
        call()
    except OSError:
        if undo is not None:
            undo()
        raise


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="patches/apply.py", description=f"Patch a tree of ComfyUI v{RELEASE} for Intel GPUs."
    )
    parser.add_argument("tree", type=Path, help="the folder that holds ComfyUI's main.py")
    parser.add_argument("--check", action="store_true", help="only say whether it would work")
    parser.add_argument("--reverse", action="store_true", help="take the patches out")
    parser.add_argument(
        "--allow",
        metavar="VERSION",
        help="also a tree of this version, or one that was changed, if every line fits",
    )
    given = parser.parse_args(argv)
    write = not given.check
    try:
        done = (
            take_out(given.tree, write) if given.reverse else apply(given.tree, given.allow, write)
        )
    except (PatchError, OSError) as error:
        sys.stderr.write(f"{error}\nNothing was changed.\n")
        return 1
    sys.stdout.write(f"{done}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
