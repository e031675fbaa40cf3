"""What is inside a checkpoint, looked at before torch unpacks it or runs anything of it.

Two of torch's own formats hold code that `weights_only` did not keep from running before torch
2.6 (https://github.com/pytorch/pytorch/security/advisories/GHSA-53q9-r3pm-6pq6): TorchScript and
tar archives. And a zip archive may hold far more than its file has bytes.
"""

import os
import re
import struct
import tarfile
import zipfile
from pathlib import Path

MOST_TIMES = 4
"""An archive holds at most so many times its own bytes, and so do all tensors together: torch
compresses nothing, and tensors that share memory are few."""

SLACK = 64 << 20
"""Bytes that may come on top."""

# torch does not tell small letters from capitals in the names of an archive's parts.
_CODE = re.compile(r"(^|/)code/.*\.py$", re.IGNORECASE | re.DOTALL)

_CONSTANTS = "constants.pkl"

# Words that reach beyond tensors, wherever they stand in a program's text: what is a string or a
# comment there is for torch to say, and a word has one spelling only, outside of strings. The
# first three write files and call other machines; other libraries' operators and classes may do
# anything; numbers in place of letters hide words.
_REACHES_OUT = re.compile(
    r"\b(?:save|from_file|rpc_\w+|classes)\b"
    r"|\bops\b(?!\.(?:prim|aten|torchvision)\.\w)(?:\.\w+)?"
    r"|\\[0-7x]"
)

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_TAIL = _END64.size + _LOCATOR.size + _END.size


class ArchiveError(ValueError):
    """Why an archive is not opened; the message is the reason alone, without the file's name."""


def check_checkpoint(path: Path) -> None:
    """Raise `ArchiveError` where `path` is a program or would grow beyond what it can hold."""
    if _is_zip(path):
        with _opened(path) as archive:
            names = (member.orig_filename.lower() for member in archive.infolist())
            if any(name.rpartition("/")[2] == _CONSTANTS for name in names):
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
        for member in archive.infolist():
            # By its entry, because a name may be there twice; and `filename` is a changed one.
            if _CODE.search(member.orig_filename):
                _check_code(archive.read(member).decode("utf-8", "replace"))


def _check_code(text: str) -> None:
    found = _REACHES_OUT.search(text)
    if found:
        raise ArchiveError(
            f"its program calls {found[0]}, which reaches or may hide what reaches beyond tensors: "
            "to files, other machines or other libraries. It is not the published file"
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
    _check_end(path)
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ArchiveError(f"it is damaged or incomplete ({error})") from error


def _check_end(path: Path) -> None:
    """Raise `ArchiveError` unless all readers find the same table of contents.

    They look for it in different ways: Python's counts back from the end, torch's goes where the
    end says. In what torch writes both are right, and nothing follows the end.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) - _END.size
        file.seek(max(0, end + _END.size - _TAIL))
        tail = file.read().rjust(_TAIL, b"\0")
    sign, *_, size, start, comment = _END.unpack(tail[-_END.size :])
    whole = sign == b"PK\5\6" and comment == 0
    locator, _, place, _ = _LOCATOR.unpack(tail[_END64.size : -_END.size])
    if locator == b"PK\6\7":  # figures of large files
        end -= _LOCATOR.size + _END64.size
        sign, *_, size, start = _END64.unpack(tail[: _END64.size])
        whole = whole and sign == b"PK\6\6" and place == end
    if not whole or start + size != end:
        raise ArchiveError(
            "it is damaged or incomplete (its table of contents is not where its end says)"
        )


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
