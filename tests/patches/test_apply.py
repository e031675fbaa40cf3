"""patches/apply.py: all or nothing, there and back."""

import shutil
import subprocess
import sys
from pathlib import Path

import hosts
import pytest
from conftest import REPOSITORY
from patch_series import SERIES, TOUCHED

CODE = ("comfy", "comfy_extras", "comfyui_version.py", "execution.py", "server.py")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the patches touch of the released tree, and what is around it."""
    released = hosts.installed(hosts.REFERENCE).tree.path
    folder = tmp_path / "tree"
    for name in CODE:
        if (released / name).is_dir():
            shutil.copytree(released / name, folder / name)
        else:
            shutil.copy2(released / name, folder / name)
    return folder


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Path -> content and mode of every file, and empty folders."""
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes() if path.is_file() else b"",
            path.stat().st_mode,
        )
        for path in folder.rglob("*")
    }


def run(*arguments: str, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run apply.py, ours or that of another clone."""
    command = [sys.executable, "-I", str(folder / "patches" / "apply.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(tree: Path, *options: str, folder: Path = REPOSITORY) -> str:
    """What apply.py says when it refuses a tree, which is as it was."""
    before = content(tree)
    done = run(*options, str(tree), folder=folder)
    assert done.returncode == 1
    assert content(tree) == before
    assert done.stderr.endswith("Nothing was changed.\n")
    assert "Traceback" not in done.stderr
    return done.stderr


def replace(file: Path, old: str, new: str) -> None:
    """Change one place of a file."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_there_and_back_restores_the_tree_byte_for_byte(tree: Path) -> None:
    released = content(tree)
    assert run("--check", str(tree)).returncode == 0
    assert content(tree) == released
    done = run(str(tree))
    assert done.returncode == 0, done.stderr
    assert f"{len(SERIES)} patches, {len(TOUCHED)} files changed" in done.stdout
    patched = content(tree)
    again = run(str(tree))
    assert "was patched already.\n" in again.stdout
    assert content(tree) == patched
    # What Python leaves beside the runtime goes with it.
    compiled = tree / "comfy" / "xpu_runtime" / "__pycache__"
    compiled.mkdir()
    (compiled / "seam.pyc").write_bytes(b"bytecode")
    assert run("--reverse", str(tree)).returncode == 0
    assert content(tree) == released
    assert run("--reverse", str(tree)).returncode == 0
    assert content(tree) == released


def test_the_runtime_is_copied_word_for_word_and_renewed(tree: Path) -> None:
    assert run(str(tree)).returncode == 0
    copied, ours = tree / "comfy" / "xpu_runtime", REPOSITORY / "xpu_runtime"
    names = sorted(path.relative_to(ours) for path in ours.rglob("*.py"))
    assert sorted(path.relative_to(copied) for path in copied.rglob("*.py")) == names
    assert all((copied / name).read_bytes() == (ours / name).read_bytes() for name in names)
    patched = content(tree)
    (copied / "memory.py").write_text("old = True\n")
    (copied / "gone.py").write_text("old = True\n")
    assert "its runtime is renewed" in run(str(tree)).stdout
    assert content(tree) == patched


def test_a_tree_that_was_patched_in_part_is_completed(tree: Path) -> None:
    assert run(str(tree)).returncode == 0
    patched = content(tree)
    out = REPOSITORY / "patches" / "0003-memory.patch"
    command = ["patch", "-p1", "--fuzz=0", "-R", "--no-backup-if-mismatch", "-i", str(out)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    assert content(tree) != patched
    assert run(str(tree)).returncode == 0
    assert content(tree) == patched


def test_another_version_is_refused_unless_it_is_allowed(tree: Path) -> None:
    replace(tree / "comfyui_version.py", '"0.3.47"', '"0.3.48"')
    words = refused(tree)
    assert "is ComfyUI 0.3.48" in words
    assert "--allow 0.3.48" in words
    assert "is ComfyUI 0.3.48" in refused(tree, "--allow", "0.3.49")
    assert run("--allow", "v0.3.48", str(tree)).returncode == 0
    assert (tree / "comfy" / "xpu_runtime" / "patched.py").exists()


@pytest.mark.host
@pytest.mark.parametrize("version", [v for v in hosts.VERSIONS if v != hosts.REFERENCE])
def test_an_allowed_version_whose_lines_differ_is_refused(version: str, tmp_path: Path) -> None:
    released = hosts.released_tree(version).path
    tree = tmp_path / "tree"
    (tree / "comfy").mkdir(parents=True)
    for line in (REPOSITORY / "patches" / "touched.sha256").read_text().splitlines():
        name = line.split("  ")[1]
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(released / name, tree / name)
    shutil.copy(released / "comfyui_version.py", tree)
    assert "does not apply" in refused(tree, "--allow", version)


def test_a_changed_tree_is_refused_and_allowed_only_where_every_line_fits(tree: Path) -> None:
    replace(tree / "server.py", "import node_helpers\n", "import node_helpers  # mine\n")
    changed = content(tree)
    assert "server.py is not v0.3.47's" in refused(tree)
    assert run("--allow", "0.3.47", str(tree)).returncode == 0
    assert run("--reverse", str(tree)).returncode == 0
    assert content(tree) == changed
    replace(tree / "comfy" / "sd.py", "def encode(self, pixel_samples):", "def encode(self, px):")
    assert "0003-memory.patch does not apply: comfy/sd.py" in refused(tree, "--allow", "0.3.47")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\n def soft_empty_cache(force=False):", "\n def soft_empty_cache():", "does not apply"),
        # A line that the file has many times says nothing about the place.
        ("\n def soft_empty_cache(force=False):", "\n ", "does not apply"),
        ("\n def soft_empty_cache(", "\n-def soft_empty_cache(", "neither kept nor added"),
    ],
    ids=["another line", "no unambiguous line", "a line removed"],
)
def test_a_stale_patch_is_refused(
    tree: Path, tmp_path: Path, old: str, new: str, words: str
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(REPOSITORY / "patches", clone / "patches")
    shutil.copytree(REPOSITORY / "xpu_runtime", clone / "xpu_runtime")
    replace(clone / "patches" / "0003-memory.patch", old, new)
    told = refused(tree, folder=clone)
    assert "0003-memory.patch" in told
    assert words in told


def test_what_is_no_comfyui_is_refused(tmp_path: Path) -> None:
    assert "holds no ComfyUI" in refused(tmp_path)


def test_a_write_that_fails_leaves_the_tree_as_it_was(tree: Path) -> None:
    blocked = tree / "server.py.new"  # where the new content is written first
    blocked.mkdir()
    assert "server.py.new" in refused(tree)
