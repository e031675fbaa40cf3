"""What is installed with the extension is known, and so are the bytes of a release."""

import ast
import re
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import dependencies
import pytest
from comfyui_ipex.tools import archive
from conftest import REPOSITORY

EXACT = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*")


def test_requirements_are_exact_and_the_same_in_both_files() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r'"([^"]+)"', listed) == dependencies.direct()
    assert all(EXACT.fullmatch(line) for line in dependencies.direct())


def test_every_package_that_comes_along_is_listed_with_its_licence() -> None:
    text = dependencies.TABLE.read_text(encoding="utf-8")
    missing = [row for row in dependencies.rows() if row not in text]
    assert missing == [], "add them to docs/dependencies.md"
    assert not [row for row in dependencies.rows() if row.endswith("|  |")]


def test_the_environment_of_ipex_has_what_every_test_imports() -> None:
    """`./test --ipex` has not the test tools of the others, but the same conftest.py."""
    tests = REPOSITORY / "tests"
    tree = ast.parse((tests / "conftest.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for node in ast.walk(tree):
        imported |= {one.name for one in node.names} if isinstance(node, ast.Import) else set()
    names = {str(name).partition(".")[0] for name in imported}
    own = sys.stdlib_module_names | {path.stem for path in tests.iterdir()}
    listed, pinned = (
        set(re.findall(r"^\S+", (tests / file).read_text(encoding="utf-8"), re.MULTILINE))
        for file in ("ipex/requirements.txt", "requirements.txt")
    )
    needed = names - own
    assert "hypothesis" in needed
    assert needed <= {line.partition("==")[0] for line in listed & pinned}


def committed(folder: Path) -> Path:
    """A repository with one commit of two files."""
    author = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
    (folder / "nodes").mkdir(parents=True)
    (folder / "nodes" / "one.py").write_text("ONE = 1\n", encoding="utf-8")
    (folder / "README.md").write_text("# one\n", encoding="utf-8")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_two_archives_of_a_commit_are_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = committed(tmp_path / "first")
    made = archive.archive_commit("HEAD", first)
    time.sleep(1.1)  # the time now must not matter
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(first), str(clone)], check=True)
    (clone / "untracked.txt").write_text("not in it", encoding="utf-8")
    assert archive.archive_commit("HEAD", clone) == made
    with tarfile.open(fileobj=BytesIO(made)) as opened:
        names = opened.getnames()
    assert "comfyui-ipex/nodes/one.py" in names
    assert not [name for name in names if "untracked" in name]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert archive.archive_commit("HEAD", clone)[4:8] == (1_700_000_000).to_bytes(4, "little")
