"""The ComfyUI hosts that the tests run on: a tree and an environment for each version."""

import functools
from dataclasses import dataclass
from pathlib import Path

from comfyui_ipex.launcher.hosts import HostTree
from comfyui_ipex.launcher.installation import release_environment
from comfyui_ipex.launcher.releases import REFERENCE, RELEASES

VERSIONS = tuple(RELEASES)

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
    environment, tree = release_environment(version)
    _USED[version] = tree
    return TestHost(tree, environment.python)


def used_hosts() -> list[str]:
    """One line a version that tests asked for: the tree it ran on."""
    return [f"{version:8} {tree.describe()}" for version, tree in _USED.items()]


__all__ = ["REFERENCE", "VERSIONS", "TestHost", "installed", "used_hosts"]
