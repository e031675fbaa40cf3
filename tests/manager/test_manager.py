"""The real ComfyUI-Manager, without a network: from the first installation to the last trace.

Its exit status is 0 when it failed, too, so what it says and what lies there is compared.
"""

from dataclasses import dataclass
from pathlib import Path

import packaging_tools as tools
import pytest
import servers
from comfyui_ipex.nodes import NODE_CLASS_MAPPINGS
from packaging_tools import NAME

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("packaging")]


@dataclass(frozen=True)
class Managed:
    """A ComfyUI that the Manager looks after, and the repository that users are given."""

    tree: Path
    repository: Path

    @property
    def pack(self) -> Path:
        """Where the extension is installed."""
        return self.tree / "custom_nodes" / NAME

    def cli(self, *arguments: str) -> str:
        """What cm-cli says."""
        program = str(tools.with_manager() / "cm-cli")
        command = [program, *arguments, "--mode", "local"]
        return tools.run(command, self.tree, COMFYUI_PATH=str(self.tree)).words

    def install(self) -> str:
        """Install from the repository. The Manager wants an address with a machine's name."""
        return self.cli("install", f"file://localhost{self.repository}")


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Managed:
    """A host without the extension."""
    folder = tmp_path_factory.mktemp("managed")
    tree = tools.copied_host(folder / "ComfyUI")
    return Managed(tree, tools.repository(folder / NAME))


@pytest.fixture
def installed(managed: Managed) -> Managed:
    """The same with it."""
    if not managed.pack.exists():
        assert "[INSTALLED]" in managed.install()
    return managed


def test_it_installs_the_extension_and_its_requirements_and_the_host_runs_it(
    installed: Managed,
) -> None:
    assert (installed.pack / "__init__.py").exists()
    configuration = servers.Configuration(tools.NEWEST, extension=False)
    server = servers.ComfyServer(configuration, installed.tree, "")
    try:
        known = set(server.client.get_json("/object_info"))
        assert set(NODE_CLASS_MAPPINGS) <= known
        server.client.upload_image("photo.png", servers.models.photo())
        run = server.run(servers.workflow("preprocess", "cpu"))
        assert run.images
        assert "IMPORT FAILED" not in server.log
    finally:
        server.close()


def test_it_says_so_when_there_is_nothing_to_install(managed: Managed) -> None:
    words = managed.cli("install", f"file://localhost{managed.repository}-absent")
    assert "[INSTALLED]" not in words


def test_it_disables_and_enables(installed: Managed) -> None:
    assert "[DISABLED]" in installed.cli("disable", NAME)
    assert not installed.pack.exists()
    assert "[ENABLED]" in installed.cli("enable", NAME)
    assert (installed.pack / "__init__.py").exists()


def test_it_updates_to_a_newer_commit(installed: Managed) -> None:
    (installed.repository / "CHANGELOG.md").write_text("# Newer\n", encoding="utf-8")
    newer = tools.commit(installed.repository, "newer")
    assert tools.git(installed.pack, "rev-parse", "HEAD") != newer
    words = installed.cli("update", NAME)
    assert tools.git(installed.pack, "rev-parse", "HEAD") == newer, words


def test_it_uninstalls_without_a_trace(installed: Managed) -> None:
    assert "[UNINSTALLED]" in installed.cli("uninstall", NAME)
    assert not installed.pack.exists()
    assert not (installed.tree / "custom_nodes" / ".disabled" / NAME).exists()
