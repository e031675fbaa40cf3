"""What the registry's own tool makes of this repository, and what it packs for users.

comfy-import-guard reads names in code and is blind to the table of seams; `tests/host` compares
that with each host. `.comfyignore` keeps what users do not run out of the archive.
"""

import ast
import re
import zipfile
from pathlib import Path

import hosts
import packaging_tools as tools
import pytest
import servers
from comfyui_ipex.nodes import NODE_CLASS_MAPPINGS
from conftest import REPOSITORY
from packaging_tools import NAME

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("packaging")]

MOST_BYTES = 6 << 20

NEEDED = {"__init__.py", "prestartup_script.py", "pyproject.toml", "requirements.txt", "LICENSE"}

FOLDERS = {"benchmarks", "example_workflows", "inference", "locales", "nodes", "web", "xpu_runtime"}

ALSO = {"README.md", "CHANGELOG.md", "SECURITY.md", "ipex_benchmarks.py"}

PACKED_AS = "a-folder-of-another-name"
"""Nothing may depend on the folder's name."""

PROGRAM = "comfy"


def comfy(repository: Path, *arguments: str) -> tools.Said:
    """What comfy-cli says."""
    program = str(tools.with_registry_tools() / PROGRAM)
    command = [program, "--skip-prompt", "--no-enable-telemetry", *arguments]
    return tools.run(command, repository, HOME=str(repository.parent))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is published."""
    return tools.repository(tmp_path_factory.mktemp("published") / NAME)


@pytest.fixture(scope="module")
def packed(repository: Path) -> Path:
    """The folder that a user gets from the registry, in a base folder's custom_nodes."""
    said = comfy(repository, "node", "pack")
    assert said.status == 0, said.words
    pack = repository.parent / "base" / "custom_nodes" / PACKED_AS
    with zipfile.ZipFile(repository / "node.zip") as archive:
        archive.extractall(pack)
    return pack


def test_comfy_node_validate_finds_nothing(repository: Path) -> None:
    said = comfy(repository, "node", "validate")
    assert said.status == 0, said.words
    assert "All validation checks passed" in said.words
    assert "warning" not in said.words.lower(), said.words


def test_the_archive_holds_the_extension_and_little_else(packed: Path) -> None:
    found = {path.name for path in packed.iterdir()}
    assert found >= NEEDED | FOLDERS
    assert found - NEEDED - FOLDERS <= ALSO
    for folder in FOLDERS - {"benchmarks"}:
        kept = {path.relative_to(packed / folder) for path in (packed / folder).rglob("*")}
        tracked = tools.git(REPOSITORY, "ls-files", "-z", folder).split("\0")
        names = {Path(name).relative_to(folder) for name in tracked if name}
        assert names <= kept, "a line of .comfyignore matches deeper than it should"
    assert sum(path.stat().st_size for path in packed.rglob("*")) < MOST_BYTES


def test_a_host_loads_and_runs_the_archive(packed: Path) -> None:
    configuration = servers.Configuration(hosts.REFERENCE, extension=False)
    server = servers.ComfyServer(configuration, packed.parent.parent, "")
    try:
        assert set(NODE_CLASS_MAPPINGS) <= set(server.client.get_json("/object_info"))
        assert server.client.get(f"/extensions/{PACKED_AS}/docs/IpexXpuReport.md")
        server.client.upload_image("photo.png", servers.models.photo())
        assert server.run(servers.workflow("preprocess", "cpu")).images
        assert "IMPORT FAILED" not in server.log
    finally:
        server.close()


def test_requirements_are_the_projects_dependencies_and_hold_no_torch() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = (\[.*?\])", project, re.DOTALL | re.MULTILINE)
    assert listed is not None
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    assert required == ast.literal_eval(listed[1])
    assert not [line for line in required if line.startswith(("torch", "intel"))]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ComfyUI's releases as the tagged commits of a repository."""
    cache = tmp_path_factory.mktemp("guard")
    folder = cache / "ComfyUI"
    folder.mkdir()
    tools.git(folder, "init", "-q")
    for version in hosts.VERSIONS:
        tree = hosts.released_tree(version).path
        tools.git(folder, "--work-tree", str(tree), "add", "--all", ".")
        tools.git(folder, "commit", "-q", "-m", version)
        tools.git(folder, "tag", f"v{version}")
    tools.git(folder, "checkout", "-q", "--force", "HEAD")
    return cache


def test_import_guard_finds_nothing_that_breaks(
    history: Path, packed: Path, host_version: str
) -> None:
    program = str(tools.with_registry_tools() / "comfy-import-guard")
    command = [program, "--offline", "--cache-dir", str(history), "check", "--strict"]
    command += ["--comfy-dir", str(packed.parent.parent), "--target", f"v{host_version}"]
    said = tools.run(command, history)
    assert said.status == 0, said.words
    assert f"{PACKED_AS}  SAFE" in said.words
