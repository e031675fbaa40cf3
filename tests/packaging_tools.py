"""Other people's tools around this extension: ComfyUI-Manager, comfy-cli, comfy-import-guard."""

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import hosts
from comfyui_ipex.launcher.environment import TORCH_SET, Environment
from comfyui_ipex.launcher.folders import child_environment
from comfyui_ipex.launcher.hosts import resolve
from comfyui_ipex.xpu_runtime.hardware import detect
from conftest import REPOSITORY

REQUIREMENTS = Path(__file__).parent / "manager"

NAME = "comfyui-ipex"

NEWEST = hosts.VERSIONS[-1]

# Nothing may be asked for elsewhere: such a request fails at once.
OFFLINE = {
    "UV_OFFLINE": "1",
    "PIP_NO_INDEX": "1",
    "https_proxy": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "GIT_TERMINAL_PROMPT": "0",
}

_GIT = ("-c", "user.name=tests", "-c", "user.email=tests@invalid", "-c", "init.defaultBranch=main")


@dataclass(frozen=True)
class Said:
    """How a program ended."""

    status: int
    words: str
    """All that it printed, without colours and progress bars."""


def run(command: list[str], cwd: Path, **settings: str) -> Said:
    """Run a program without a network."""
    environment = {**child_environment(), **OFFLINE, "COLUMNS": "200", **settings}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    words = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stdout)
    lines = (line.rpartition("\r")[2] for line in words.splitlines())
    return Said(done.returncode, "\n".join(line for line in lines if "it/s]" not in line))


@functools.cache
def with_manager() -> Path:
    """The environment of the newest host with ComfyUI-Manager beside it; its bin folder."""
    environment = Environment(REPOSITORY / ".venv-manager")
    environment.create()
    tree = resolve(NEWEST, environment.install_wheel)
    environment.install_host(tree.path, detect().torch_backend)
    environment.install_extension(tree.path)
    own = REQUIREMENTS / "requirements.txt"
    host = tree.path / "requirements.txt"
    inputs = own.read_text(encoding="utf-8") + host.read_text(encoding="utf-8")
    files = ["--override", str(TORCH_SET), "-r", str(own), "-r", str(host)]
    environment.install("manager", "ComfyUI-Manager", files, inputs)
    return environment.folder / "bin"


@functools.cache
def with_registry_tools() -> Path:
    """The environment of comfy-cli and comfy-import-guard; its bin folder."""
    environment = Environment(REPOSITORY / ".venv-registry")
    environment.create()
    own = REQUIREMENTS / "registry-requirements.txt"
    inputs = own.read_text(encoding="utf-8")
    environment.install("registry", "comfy-cli and comfy-import-guard", ["-r", str(own)], inputs)
    return environment.folder / "bin"


def git(folder: Path, *arguments: str) -> str:
    """What git answers. Raises `CalledProcessError` if it fails."""
    command = ["git", "-C", str(folder), *_GIT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """A git repository of one commit with the files of this one as they are now."""
    listed = git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    git(folder, "init", "-q")
    commit(folder, "as it is")
    return folder


def commit(folder: Path, message: str) -> str:
    """Commit everything; the commit."""
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def copied_host(folder: Path) -> Path:
    """A copy of the newest host that a manager may write to, which is a base folder too."""
    source = resolve(NEWEST, Environment(REPOSITORY / ".venv-manager").install_wheel).path
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    os.chmod(folder, 0o755)
    return folder
