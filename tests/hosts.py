"""The ComfyUI hosts that the tests run on: a tree and an environment for each version.

Each version has an environment of its own, because their requirements exclude each other. uv links
the files, so that costs seconds and little disk.
"""

import functools
import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from comfyui_ipex.launcher.environment import Environment
from comfyui_ipex.launcher.folders import REPOSITORY, exclusive
from comfyui_ipex.launcher.hosts import HostTree, resolve
from comfyui_ipex.launcher.installation import environment_folder, release_environment
from comfyui_ipex.launcher.releases import REFERENCE, RELEASES

VERSIONS = tuple(RELEASES)

PATCHED = f"{REFERENCE}-patched"
"""Stands for a version: the reference's tree with `patches/` applied, in its environment."""

_USED: dict[str, HostTree] = {}


@dataclass(frozen=True)
class TestHost:
    """A host that tests can start. Its tree is never written to."""

    __test__ = False

    tree: HostTree
    python: Path

    @property
    def version(self) -> str:
        """The version that really runs, which may differ from the one asked for."""
        return self.tree.version


@functools.cache
def installed(version: str) -> TestHost:
    """The host of `version`, its tree found or fetched and its environment set up.

    Each version has an environment of its own: their requirements exclude each other.
    Raises `SetupError` if neither this version nor any near one can be had.
    """
    if version == PATCHED:
        return _patched(installed(REFERENCE))
    environment, tree = release_environment(version)
    environment.install_cluster(tree.path)
    _USED[version] = tree
    return TestHost(tree, environment.python)


@functools.cache
def released_tree(version: str) -> HostTree:
    """The tree of a version alone, for tests that read it; found or fetched."""
    return resolve(version, Environment(environment_folder(REFERENCE)).install_wheel)


def _patched(released: TestHost) -> TestHost:
    """The host with a patched copy of its tree, which is made again when patches change.

    It always lies at the same place, so that its bytecode is found again.
    """
    folder = released.python.parent.parent / "patched-host"
    state = hashlib.sha256()
    for path in sorted([*REPOSITORY.glob("patches/*"), *REPOSITORY.glob("xpu_runtime/**/*.py")]):
        state.update(path.read_bytes() if path.is_file() else b"")
    stamp = folder / "state"
    with exclusive(folder.with_name("patched-host.lock")):
        if not stamp.exists() or stamp.read_text() != state.hexdigest():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(released.tree.path, folder / "tree")
            command = [sys.executable, str(REPOSITORY / "patches" / "apply.py")]
            subprocess.run([*command, str(folder / "tree")], check=True, capture_output=True)
            stamp.write_text(state.hexdigest())
    tree = HostTree(folder / "tree", REFERENCE, REFERENCE, "patches/", False)
    _USED[PATCHED] = tree
    return TestHost(tree, released.python)


def used_hosts() -> list[str]:
    """One line a version that tests asked for: the tree it ran on."""
    return [f"{version:8} {tree.describe()}" for version, tree in _USED.items()]


__all__ = [
    "PATCHED",
    "REFERENCE",
    "VERSIONS",
    "TestHost",
    "installed",
    "released_tree",
    "used_hosts",
]
