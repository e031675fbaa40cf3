"""One workspace, and what is built in it, for all tests of the Nix files."""

from pathlib import Path

import pytest
from nix_bundle import Workspace, prepared


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The project as it is; no test changes it."""
    return prepared(tmp_path_factory.mktemp("nix"))


@pytest.fixture(scope="session")
def bundle(workspace: Workspace) -> Path:
    """comfyui-ipex with its usual back end, built from the shipped files."""
    return workspace.build("comfyui-ipex")
