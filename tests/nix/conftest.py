"""One workspace, and what is built in it, for all tests of the Nix files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from built_servers import BuiltServer
from nix_bundle import NIXOS, WITH_A_WORKER, Workspace, prepared
from nix_confinement import confined

# nixpkgs' own lib is not to be had without a network: these tests are for who names one.
collect_ignore = [] if os.environ.get("NIXPKGS_LIB") else ["test_nixpkgs_lib.py"]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The project as it is; no test changes it."""
    return prepared(tmp_path_factory.mktemp("nix"))


@pytest.fixture(scope="session")
def bundle(workspace: Workspace) -> Path:
    """comfyui-ipex with its usual back end, built from the shipped files."""
    return workspace.build("comfyui-ipex")


@pytest.fixture(scope="session")
def with_a_worker(workspace: Workspace) -> Path:
    """comfyui-ipex with Pythons for the CPU and for Intel GPUs, and a worker on the latter."""
    return workspace.build_expression(WITH_A_WORKER)


@pytest.fixture(scope="package")
def on_the_cpu(
    workspace: Workspace, with_a_worker: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BuiltServer]:
    """It on the CPU as a service of NixOS: within the unit's limits, and without bash in PATH."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "bin").mkdir()
    one = "{ services.comfyui-ipex = { enable = true; instances.one = { }; }; }"
    unit = workspace.configured(NIXOS, one)["services"]["comfyui-ipex-one"]
    server = BuiltServer(
        (*confined(unit["serviceConfig"], folder), str(with_a_worker / "bin" / "comfyui-ipex")),
        folder / "cpu",
        "--cpu",
        emulator="--device a770",
        environment={"PATH": str(folder / "bin")},
    )
    yield server
    server.close()
