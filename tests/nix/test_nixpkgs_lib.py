"""nixpkgs' own lib in place of the stub's. Collected where NIXPKGS_LIB names one."""

import os

import pytest
from module_cases import EXAMPLE, MERGED, MODULE_SYSTEM, OLLAMA, WORKERS
from nix_bundle import HOME, NIXOS, Workspace


@pytest.fixture
def their_lib() -> str:
    """The path of nixpkgs' lib."""
    path = os.environ.get("NIXPKGS_LIB", "")
    assert path, "NIXPKGS_LIB must name a folder: lib/ of a copy of nixpkgs"
    return path


def test_it_merges_as_the_stubs_does(workspace: Workspace, their_lib: str) -> None:
    assert workspace.evaluate(MODULE_SYSTEM, lib=their_lib) == MERGED


@pytest.mark.parametrize("kind", [NIXOS, HOME])
def test_a_configuration_comes_to_the_same_bytes(
    workspace: Workspace, their_lib: str, kind: str
) -> None:
    modules = [EXAMPLE, WORKERS, *([OLLAMA] if kind == NIXOS else [])]
    ours = workspace.configured_text(kind, *modules)
    theirs = workspace.configured_text(kind, *modules, lib=their_lib)
    assert len(ours) > 10_000
    assert ours == theirs
