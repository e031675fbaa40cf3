"""Which clone of this repository a ComfyUI loads."""

from pathlib import Path

import pytest
from comfyui_ipex.launcher.errors import SetupError
from comfyui_ipex.launcher.folders import REPOSITORY
from comfyui_ipex.launcher.installation import EXTENSION_NAME, link_extension


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "custom_nodes").mkdir()
    return tmp_path


def link(base: Path) -> Path:
    return base / "custom_nodes" / EXTENSION_NAME


def another_clone(base: Path) -> Path:
    other = base / "other"
    other.mkdir()
    link(base).symlink_to(other, target_is_directory=True)
    return other


def test_a_link_is_made_and_then_left_alone(base: Path) -> None:
    link_extension(base)
    link_extension(base)
    assert link(base).resolve() == REPOSITORY


def test_a_link_that_leads_nowhere_is_replaced(base: Path) -> None:
    another_clone(base).rmdir()
    link_extension(base)
    assert link(base).resolve() == REPOSITORY


def test_in_the_launchers_own_home_the_clone_started_last_serves(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = another_clone(base)
    link_extension(base, own_home=True)
    assert link(base).resolve() == REPOSITORY
    assert other.exists()
    assert str(other) in capsys.readouterr().out


def test_in_a_users_own_comfyui_another_clone_stays(base: Path) -> None:
    other = another_clone(base)
    with pytest.raises(SetupError, match="Another copy"):
        link_extension(base)
    assert link(base).resolve() == other


def test_a_copy_that_is_no_link_always_stays(base: Path) -> None:
    link(base).mkdir()
    with pytest.raises(SetupError, match="Another copy"):
        link_extension(base, own_home=True)
    assert link(base).is_dir()
