"""What is inside a checkpoint, looked at before torch unpacks it or runs anything of it.

Two of torch's own formats hold code that `weights_only` did not keep from running before torch
2.6 (https://github.com/pytorch/pytorch/security/advisories/GHSA-53q9-r3pm-6pq6): TorchScript and
tar archives. And a zip archive may hold far more than its file has bytes.
"""

import re
import tarfile
import zipfile
from pathlib import Path

MOST_TIMES = 4
"""An archive holds at most so many times its own bytes, and so do all tensors together: torch
compresses nothing, and tensors that share memory are few."""

SLACK = 64 << 20
"""Bytes that may come on top."""

_CODE = re.compile(r"(^|/)code/.*\.py$")

_CONSTANTS = "constants.pkl"

# A program's text with all blanks and line continuations taken out. What reaches beyond tensors:
# torch.save and torch.from_file write files, remote calls, and operators of other libraries.
_REACHES_OUT = re.compile(
    r"torch\.(?P<function>save|from_file)"
    r"|(?P<remote>rpc_(?:sync|async|remote))\("
    r"|(?P<library>ops\.(?!(?:prim|aten|torchvision)\.)\w+)"
    r"|(?P<hidden>getattr\(+(?:torch|ops|prim))"
)

_BLANKS = re.compile(r"#[^\n]*|[\s\\]+")


class ArchiveError(ValueError):
    """Why an archive is not opened; the message is the reason alone, without the file's name."""


def check_checkpoint(path: Path) -> None:
    """Raise `ArchiveError` where `path` is a program or would grow beyond what it can hold."""
    if _is_zip(path):
        with _opened(path) as archive:
            if any(Path(name).name == _CONSTANTS for name in archive.namelist()):
                raise ArchiveError("it is TorchScript: a program, not weights alone")
            _check_size(archive, path)
    elif _is_tar(path):
        raise ArchiveError(
            "it is a tar archive, torch's oldest format, which cannot be read without running "
            "what it says. Convert it to safetensors where you trust its source"
        )


def check_program(path: Path) -> None:
    """Raise `ArchiveError` where the TorchScript in `path` does more than compute with tensors."""
    if not _is_zip(path):
        raise ArchiveError("it is no whole TorchScript file")
    with _opened(path) as archive:
        _check_size(archive, path)
        for name in archive.namelist():
            if _CODE.search(name):
                _check_code(archive.read(name).decode("utf-8", "replace"))


def _check_code(text: str) -> None:
    found = _REACHES_OUT.search(_BLANKS.sub("", text))
    if found:
        raise ArchiveError(
            f"its program calls {found[0].rstrip('(')}, which reaches beyond tensors: to files, "
            "other machines or other libraries. It is not the published file"
        )


def _check_size(archive: zipfile.ZipFile, path: Path) -> None:
    check_size(sum(member.file_size for member in archive.infolist()), path, "its parts")


def check_size(claimed: int, path: Path, what: str) -> None:
    """Raise `ArchiveError` if `claimed` bytes are more than the file at `path` can hold."""
    size = path.stat().st_size
    if claimed > MOST_TIMES * size + SLACK:
        raise ArchiveError(
            f"{what} claim {claimed / 2**20:.0f} MiB, in a file of {size / 2**20:.1f} MiB"
        )


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ArchiveError(f"it is damaged or incomplete ({error})") from error


def _is_zip(path: Path) -> bool:
    # As torch decides it; zipfile.is_zipfile also takes what is only at the end of a file.
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _is_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:"):
            return True
    except (tarfile.TarError, EOFError, ValueError):
        return False
