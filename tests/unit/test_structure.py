"""The rules of the house: style, layers, sizes, and what every node must have."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_ipex import nodes
from comfyui_ipex.launcher import benchmark
from comfyui_ipex.xpu_runtime import VERSION, host
from comfyui_ipex.xpu_runtime.priority import Primary
from comfyui_ipex.xpu_runtime.seams import Circumstances, seams
from comfyui_ipex.xpu_runtime.seams.memory import MemoryReader
from comfyui_ipex.xpu_runtime.settings import SETTINGS, read
from conftest import REPOSITORY

LONGEST_FILE = 400
LONGEST_FUNCTION = 50

# Programs of tools/ that run before anything is installed.
STARTERS = (
    "tools/testing.py",
    "tools/host_suites.py",
    "tools/archive.py",
    "tools/house_figures.py",
    "batch/launch.py",
    "xpu_runtime/processes/*.py",
)

# What is neither in pip's package nor below custom_nodes.
NOT_INSTALLED = {"nix", "tools"}

# Which of our folders a folder may import from. What measures knows no suite, and no node but
# through a suite, whose modules it imports by name.
LAYERS = {
    "nodes": {"nodes", "inference", "xpu_runtime", "benchmarks"},
    "inference": {"inference", "xpu_runtime"},
    "xpu_runtime": {"xpu_runtime"},
    "launcher": {"launcher", "xpu_runtime"},
    "nix": {"launcher", "xpu_runtime"},
    "tools": {"tools", "nodes", "inference", "xpu_runtime", "launcher"},
    "batch": {"batch", "launcher", "xpu_runtime"},
    "benchmarks": {"benchmarks", "xpu_runtime", "launcher"},
    "benchmarks/suites": {"benchmarks", "nodes", "inference", "xpu_runtime", "launcher", "batch"},
}


def tracked(*patterns: str) -> list[Path]:
    """The repository's files, as git knows them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in listed.stdout.split()]


PYTHON_FILES = tracked("*.py")


def name_of(path: Path) -> str:
    """The path below the repository."""
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("task", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(task: list[str]) -> None:
    command = [sys.executable, "-m", "ruff", *task, "--no-cache", str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_python_files_are_ascii_and_of_readable_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize(
    "path",
    [p for p in PYTHON_FILES if p.relative_to(REPOSITORY).parts[0] in LAYERS],
    ids=name_of,
)
def test_imports_go_one_way_and_stay_relative(path: Path) -> None:
    parts = path.relative_to(REPOSITORY).parts
    package = list(parts[:-1])
    allowed = LAYERS.get("/".join(package), LAYERS[parts[0]])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = [*base, *(node.module or "").split(".")]
            names = [alias.name for alias in node.names] if target == [""] else [target[0]]
            assert set(names) <= allowed, f"line {node.lineno}"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert (module or "").partition(".")[0] not in LAYERS, f"line {node.lineno}"


def test_what_runs_before_the_set_up_needs_nothing_but_the_standard_library() -> None:
    own = {path.stem for path in (REPOSITORY / "patches").glob("*.py")}
    for path in tracked("launcher/*.py", "nix/start/bundle.py", "patches/*.py", *STARTERS):
        if path.name == "demo_assets.py":  # runs in the environment that was set up
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = {(node.module or "").partition(".")[0]}
            else:
                continue
            assert found <= sys.stdlib_module_names | own, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("name", nodes.NODE_CLASS_MAPPINGS)
def test_every_node_is_documented(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "model_names", lambda folder: [f"a file of {folder}"])
    node = nodes.NODE_CLASS_MAPPINGS[name]
    assert name == node.__name__
    assert name.startswith("Ipex")
    assert node.CATEGORY.split("/")[0] == "IPEX"
    assert node.DESCRIPTION
    assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES)
    assert nodes.NODE_DISPLAY_NAME_MAPPINGS[name]
    page = (REPOSITORY / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for inputs in node.INPUT_TYPES().values():
        for widget, (_, options) in inputs.items():
            assert options["tooltip"]
            assert f"`{widget}`" in page


def test_the_mappings_are_literal_for_the_managers_static_scanner() -> None:
    tree = ast.parse((REPOSITORY / "nodes" / "__init__.py").read_text(encoding="utf-8"))
    literal = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    mapping = literal["NODE_CLASS_MAPPINGS"]
    assert isinstance(mapping, ast.Dict)
    assert all(isinstance(key, ast.Constant) for key in mapping.keys)


def test_every_package_is_installed_by_pip() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    folders = {path.parent.relative_to(REPOSITORY) for path in PYTHON_FILES}
    installed = LAYERS.keys() - NOT_INSTALLED
    shipped = {folder for folder in folders if folder.parts and folder.parts[0] in installed}
    (packages,) = re.findall(r"^packages = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    stated = set(re.findall(r'"comfyui_ipex\.([\w.]+)"', packages))
    assert stated == {".".join(folder.parts) for folder in shipped}


def test_the_launcher_installs_what_the_benchmark_asks_for() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (extra,) = re.findall(r"^benchmarks = \[(.*)\]$", project, re.MULTILINE)
    asked = set(re.findall(r'"([^"]+)"', extra))
    assert set(benchmark.PACKAGES) <= asked
    # torch brings the one, ComfyUI the other.
    assert {name.partition(">")[0] for name in asked - set(benchmark.PACKAGES)} == {
        "jinja2",
        "psutil",
    }


def test_the_version_is_the_same_everywhere() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{VERSION}"\n' in project
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(VERSION)}\]", changes, re.MULTILINE)


def test_every_setting_is_in_the_readme_and_has_its_default() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for setting in SETTINGS:
        assert f"`{setting.name}`" in readme
        assert read(setting.name, {}) == setting.default
        assert read(setting.name, {setting.name: " chosen "}) == "chosen"


def test_every_change_to_the_host_is_in_the_readme_with_a_reason() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    circumstances = Circumstances(Primary("xpu", None, None), 1, False, None)
    rows = seams(circumstances, MemoryReader())
    assert len({seam.name for seam in rows}) == len(rows)
    for seam in rows:
        assert f"`{seam.name}`" in readme
        assert seam.reason


def test_contributing_stays_short() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 90
