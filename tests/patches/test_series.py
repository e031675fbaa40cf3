"""patches/: what the series is made of, and that the usual tools take it too."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import hosts
import pytest
from comfyui_ipex.xpu_runtime.priority import Primary
from comfyui_ipex.xpu_runtime.seams import Circumstances, seams
from comfyui_ipex.xpu_runtime.seams.memory import MemoryReader
from patch_series import FOLDER, SERIES, TOUCHED, lines_of, named_rows, text_of

GIT = ("git", "apply")
PATCH = ("patch", "--strip=1", "--fuzz=0", "--force", "--no-backup-if-mismatch")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of the released tree that the series touches."""
    tree = tmp_path / "tree"
    for name in TOUCHED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(hosts.installed(hosts.REFERENCE).tree.path / name, tree / name)
    return tree


def use(tool: Sequence[str], tree: Path, name: str, *options: str) -> None:
    """Have a tool put a patch into a tree, or take it out with --reverse."""
    given = ["--input", str(FOLDER / name)] if tool is PATCH else [str(FOLDER / name)]
    done = subprocess.run(
        [*tool, *options, *given], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    assert "fuzz" not in done.stdout


def content(tree: Path) -> dict[str, bytes]:
    """Every file of a tree, also those that a tool left behind."""
    found = [path for path in tree.rglob("*") if path.is_file()]
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in found}


def test_every_patch_is_in_the_series() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.patch")) == SERIES


@pytest.mark.parametrize("name", SERIES)
def test_a_patch_only_adds_lines_and_says_what_it_does(name: str) -> None:
    assert lines_of(name, "-") == []
    assert lines_of(name, "+")
    title, empty, *_ = text_of(name).splitlines()
    assert title
    assert empty == ""


@pytest.mark.parametrize("tool", [GIT, PATCH], ids=["git apply", "patch"])
def test_the_usual_tools_apply_the_series_as_we_do_and_take_it_out_again(
    files: Path, tool: Sequence[str]
) -> None:
    patched = hosts.installed(hosts.PATCHED).tree.path
    released = content(files)
    for name in SERIES:
        use(tool, files, name, "--check" if tool is GIT else "--dry-run")
        use(tool, files, name)
    assert content(files) == {name: (patched / name).read_bytes() for name in TOUCHED}
    for name in reversed(SERIES):
        use(tool, files, name, "--reverse")
    assert content(files) == released


@pytest.mark.parametrize("name", SERIES)
def test_each_patch_can_be_left_out_and_taken_out_alone(files: Path, name: str) -> None:
    """What is left is Python, and needs nothing of the patch that is not there."""
    for other in SERIES:
        if other != name:
            use(GIT, files, other)
    without = content(files)
    use(GIT, files, name)
    use(PATCH, files, name, "--reverse")
    assert content(files) == without
    for file, text in without.items():
        source = text.decode()
        compile(source, file, "exec")
        used = re.search(r"^\s*@on_xpu|on_xpu\(", source, re.MULTILINE)
        imported = re.search(r"^from comfy.xpu_runtime.patched import .*on_xpu$", source, re.M)
        if used:
            assert imported, file
            assert imported.start() < used.start(), file


def test_the_series_covers_every_change_that_the_release_needs() -> None:
    """The rows that are not named here are about functions that v0.3.47 does not have."""
    circumstances = Circumstances(Primary("xpu", None, None), 2, True, None)
    rows = {row.name for row in seams(circumstances, MemoryReader())}
    newer = {
        "all-devices",
        "nvfp4-compute",
        "mxfp8-compute",
        "fp64",
        "current-stream",
        "oom-errors",
        "upscale-node-errors",
    }
    assert named_rows() == rows - newer


def test_the_readme_has_a_row_for_each_patch_and_the_true_diffstat(files: Path) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in SERIES:
        added = len(lines_of(name, "+"))
        assert re.search(rf"^\| `{name}` \|.*\| \+{added} in ", readme, re.MULTILINE), name
    command = ["git", "init", "--quiet", "."]
    subprocess.run(command, cwd=files, check=True)
    subprocess.run(["git", "add", "."], cwd=files, check=True)
    for name in SERIES:
        use(GIT, files, name)
    command = ["git", "diff", "--stat"]
    stat = subprocess.run(command, cwd=files, check=True, capture_output=True, text=True).stdout
    assert stat.rstrip() in readme
