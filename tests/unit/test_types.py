"""mypy over the package, with the settings of pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGES = ("xpu_runtime", "inference", "batch", "nodes", "launcher", "tools", "benchmarks")


@pytest.mark.xdist_group("types")  # it takes long, and starts early
def test_mypy_is_content(tmp_path: Path) -> None:
    (tmp_path / "comfyui_ipex").symlink_to(REPOSITORY)
    command = [sys.executable, "-m", "mypy", "--config-file", str(REPOSITORY / "pyproject.toml")]
    command += ["--cache-dir", str(REPOSITORY / ".mypy_cache"), "--no-error-summary"]
    for package in PACKAGES:
        command += ["-p", f"comfyui_ipex.{package}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
