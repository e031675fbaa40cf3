"""`./comfyui-ipex benchmark`: what is the launcher's, and what goes to the benchmark."""

from pathlib import Path

import pytest
from comfyui_ipex.launcher import benchmark, cli
from comfyui_ipex.launcher.choice import Decision
from comfyui_ipex.launcher.environment import Environment
from comfyui_ipex.launcher.hosts import HostTree
from comfyui_ipex.launcher.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A host that is set up."""
    tree = HostTree(tmp_path / "tree", "0.3.47", "0.3.47", "a test", False)
    decision = Decision("xpu:0", "a test", (), "xpu:0")
    return Installation(Environment(tmp_path / "venv"), tree, None, decision)


def test_all_but_the_host_version_goes_to_the_benchmark() -> None:
    given = ["--host", "0.3.52", "--device", "cpu,xpu:0", "--quick", "--output", "mine"]
    own, rest = benchmark.own_arguments(given)
    assert own.host == "0.3.52"
    assert rest == ["--device", "cpu,xpu:0", "--quick", "--output", "mine"]
    assert cli.requested_device(own) == "auto"


def test_the_benchmark_is_told_where_comfyui_is(installation: Installation) -> None:
    command = benchmark.command(installation, ["--quick"])
    assert command[1:] == [
        str(benchmark.PROGRAM), "--quick", "--tree", str(installation.tree.path)
    ]  # fmt: skip
    assert benchmark.PROGRAM.exists()


def test_comparing_files_needs_no_comfyui(installation: Installation) -> None:
    command = benchmark.command(installation, ["compare", "A.json", "B.json"])
    assert command[2:] == ["compare", "A.json", "B.json"]
