"""A unit's limits on system calls and sockets, put on a program here, where no systemd runs.

As a program: nix_confinement.py LIMITS.JSON PROGRAM [ARGUMENTS]. Its folders and users are not
confined; systemd alone can do that.
"""

import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARY = "libseccomp.so.2"

ALLOW = 0x7FFF0000
REFUSE = 0x00050000

EQUAL = 4
MASKED_EQUAL = 7

SET_NO_NEW_PRIVILEGES = 38

MOST_FAMILIES = 46

NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWNS and so on."""


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def confined(service: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """What stands before a program so that it gets the limits of a unit's [Service]."""
    from debian_programs import program

    allowed: set[str] = set(_calls("@default"))
    for group in service["SystemCallFilter"]:
        calls = _calls(group.removeprefix("~"))
        allowed = allowed - calls if group.startswith("~") else allowed | calls
    unpacked = program("systemd-analyze", "systemd").root
    found = sorted(unpacked.rglob(LIBRARY)) if unpacked is not None else []
    assert service["RestrictNamespaces"] is True and service["NoNewPrivileges"] is True
    limits = {
        "library": str(found[0]) if found else LIBRARY,
        "calls": sorted(allowed),
        "error": service["SystemCallErrorNumber"],
        "families": service["RestrictAddressFamilies"],
        "umask": service["UMask"],
    }
    file = folder / "limits.json"
    file.write_text(json.dumps(limits), encoding="utf-8")
    return (sys.executable, "-I", "-S", __file__, str(file))


def _calls(group: str) -> set[str]:
    """The system calls of one of systemd's groups."""
    from nix_units import analyze

    found: set[str] = set()
    for line in analyze("syscall-filter", "--no-pager", group).stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= _calls(word)
        elif word and not word.startswith("#"):
            found.add(word)
    assert found, group
    return found


class _Filter:
    """A seccomp filter that is being made."""

    def __init__(self, library: str, usual: int) -> None:
        self._lib = ctypes.CDLL(library)
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._filter = ctypes.c_void_p(self._lib.seccomp_init(ctypes.c_uint32(usual)))

    def add(self, action: int, call: str, *comparisons: _Comparison) -> None:
        """`action` for a call whose arguments are such. What this machine lacks is passed over."""
        number = self._lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        listed = (_Comparison * len(comparisons))(*comparisons)
        added = self._lib.seccomp_rule_add_array(
            self._filter, ctypes.c_uint32(action), number, len(comparisons), listed
        )
        if added != 0:
            raise OSError(-added, f"no rule can be made for {call}")

    def load(self) -> None:
        """Put it on this process and its children."""
        loaded = self._lib.seccomp_load(self._filter)
        if loaded != 0:
            raise OSError(-loaded, "the filter cannot be loaded")


def _families(library: str, names: Iterable[str]) -> _Filter:
    """As RestrictAddressFamilies= and RestrictNamespaces= do."""
    allowed = {int(getattr(socket, name)) for name in names}
    made = _Filter(library, ALLOW)
    for family in set(range(MOST_FAMILIES)) - allowed:
        made.add(REFUSE | errno.EAFNOSUPPORT, "socket", _Comparison(0, EQUAL, family, 0))
    for flag in NAMESPACES:
        for call in ("clone", "unshare"):
            made.add(REFUSE | errno.EPERM, call, _Comparison(0, MASKED_EQUAL, flag, flag))
    # Its flags lie in memory, where no filter can look.
    made.add(REFUSE | errno.ENOSYS, "clone3")
    made.add(REFUSE | errno.EPERM, "setns")
    return made


def main(arguments: Sequence[str]) -> None:
    """Confine this process and become the program."""
    limits = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    library = limits["library"]
    calls = _Filter(library, REFUSE | int(getattr(errno, limits["error"])))
    for call in limits["calls"]:
        calls.add(ALLOW, call)
    families = _families(library, limits["families"])
    os.umask(int(limits["umask"], 8))
    ctypes.CDLL(None).prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    families.load()
    calls.load()
    os.execvp(arguments[1], list(arguments[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
