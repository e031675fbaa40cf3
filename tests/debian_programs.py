"""Programs of Debian that tests need and a machine may lack: unpacked into the user's cache.

That needs neither root nor an installation, and leaves the system as it is.
"""

import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from comfyui_ipex.launcher.console import run_command
from comfyui_ipex.launcher.errors import SetupError
from comfyui_ipex.launcher.folders import exclusive, user_cache

DEPENDENCY = re.compile(r"^ +\|?Depends: (lib[^<>\s]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    """A program that can be run."""

    path: Path
    root: Path | None = None
    """Where its packages were unpacked; None if the system has it."""

    def environment(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The environment that it runs in."""
        if self.root is None:
            return dict(environ)
        libraries = {str(file.parent) for file in self.root.rglob("*.so*")}
        return {
            **environ,
            "PATH": f"{self.path.parent}:{environ.get('PATH', '')}",
            "LD_LIBRARY_PATH": ":".join(sorted(libraries)),
        }


@functools.cache
def program(name: str, package: str) -> Program:
    """A program, from the system or from Debian's `package`.

    Raises `SetupError`, which says what to install, if it can be had from neither.
    """
    installed = shutil.which(name)
    if installed:
        return Program(Path(installed))
    if shutil.which("apt-get") is None:
        raise SetupError(
            f"{name} is not installed, and tests need it.",
            why="there is no apt-get to fetch it with",
            remedy=f"Install it; Debian has it in the package {package}.",
        )
    root = user_cache() / "debian" / package
    with exclusive(root.with_name(f"{package}.lock")):
        if not root.exists():
            _unpack(package, root)
    return Program(root / "usr" / "bin" / name, root)


def _unpack(package: str, root: Path) -> None:
    """Fetch a package and the libraries that this system lacks, and unpack them into `root`."""
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        try:
            wanted = _with_libraries(package, ())
        except SetupError:
            options = _own_lists(Path(scratch) / "apt")
            run_command("Fetching Debian's lists", ["apt-get", *options, "update"])
            wanted = _with_libraries(package, options)
        else:
            options = ()
        debs = Path(scratch) / "debs"
        debs.mkdir()
        run_command(f"Fetching {package}", ["apt-get", *options, "download", *wanted], cwd=debs)
        fresh = Path(scratch) / "root"
        for deb in sorted(debs.glob("*.deb")):
            run_command(f"Unpacking {deb.name}", ["dpkg-deb", "-x", str(deb), str(fresh)])
        fresh.rename(root)


def _with_libraries(package: str, options: Sequence[str]) -> list[str]:
    """The package and the libraries that it needs and that are not installed."""
    wanted: list[str] = []
    ask = [package]
    while ask:
        name = ask.pop()
        wanted.append(name)
        listed = run_command(f"Asking what {name} needs", ["apt-cache", *options, "depends", name])
        # Nix' own parts that are written in Perl are not used.
        libraries = {n for n in DEPENDENCY.findall(listed) if "perl" not in n}
        ask += [n for n in sorted(libraries - {*wanted, *ask}) if not _is_installed(n)]
    return wanted


def _is_installed(package: str) -> bool:
    asked = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.startswith("installed")


def _own_lists(folder: Path) -> tuple[str, ...]:
    """Options that have apt keep its lists in a folder of ours."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    return (
        *("-o", f"Dir::State::Lists={folder / 'lists'}"),
        *("-o", f"Dir::Cache={folder / 'cache'}"),
        *("-o", "APT::Sandbox::User="),
    )
