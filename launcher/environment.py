"""A virtual environment with torch for this machine's GPU and what a ComfyUI host needs."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..xpu_runtime.hardware import Hardware
from .console import run_command, step, warn
from .errors import SetupError
from .folders import REPOSITORY, exclusive

UV = "uv==0.13.9"

RAY = "ray==2.60.0"
"""What the nodes of a cluster need, in the same version: pyproject's extra `cluster`."""

TORCH_SET = REPOSITORY / "launcher" / "torch-set.txt"
EXTENSION_REQUIREMENTS = REPOSITORY / "requirements.txt"

# v0.3.47 and 0.3.52 import requests, which their requirements only bring through transformers 4.
UNDECLARED_HOST_REQUIREMENTS = ("requests",)

SUPPORTED_PYTHON = ("3.10", "3.11", "3.12", "3.13")
STATE_FILE = "comfyui-ipex-setup.json"

_PROBE = """
import json, torch
xpu = getattr(torch, "xpu", None)
print(json.dumps({
    "torch": torch.__version__,
    "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
    "xpu": xpu.device_count() if xpu is not None and xpu.is_available() else 0,
}))
"""


@dataclass(frozen=True)
class TorchProbe:
    """What torch said when it was asked in the environment."""

    torch: str
    cuda: int
    """Number of CUDA devices."""
    xpu: int
    """Number of XPU devices."""

    @property
    def devices(self) -> list[str]:
        """Device names in the order of torch's numbering, the CPU last."""
        cuda = [f"cuda:{index}" for index in range(self.cuda)]
        return [*cuda, *(f"xpu:{index}" for index in range(self.xpu)), "cpu"]


@dataclass
class Environment:
    """A virtual environment that is set up step by step and remembers finished steps.

    A step that was interrupted is not recorded, and every step can be repeated over its own
    remains: starting again resumes.
    """

    folder: Path
    state: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text(encoding="utf-8"))

    @property
    def state_file(self) -> Path:
        """The record of finished steps; it disappears with the environment."""
        return self.folder / STATE_FILE

    @property
    def lock_file(self) -> Path:
        """Held while a step runs, so that two launchers take turns."""
        return self.folder.with_name(self.folder.name + ".lock")

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def record(self, name: str, value: Any) -> None:
        """Remember a finished step; the file is replaced at once or not at all."""
        self.state[name] = value
        draft = self.state_file.with_suffix(".draft")
        draft.write_text(json.dumps(self.state, indent=1), encoding="utf-8")
        os.replace(draft, self.state_file)

    def create(self) -> None:
        """Make the virtual environment and put uv into it, unless that is done."""
        with exclusive(self.lock_file):
            if self.state.get("venv") == UV and self.python.exists():
                return
            with step(f"Python environment in {self.folder}"):
                run_command(
                    "Making the Python environment",
                    [suitable_python(), "-m", "venv", str(self.folder)],
                )
                run_command(
                    "Installing uv, the package installer",
                    [str(self.python), "-m", "pip", "install", "--quiet", UV],
                )
                self.record("venv", UV)

    def install(self, name: str, title: str, arguments: Sequence[str], inputs: str = "") -> None:
        """Install packages as step `name`, unless that was done with the same inputs.

        `inputs` stands for whatever else decides the outcome, such as the content of the
        requirement files that the arguments name. Raises `SetupError`.
        """
        fingerprint = hashlib.sha256(json.dumps([*arguments, inputs]).encode()).hexdigest()
        if self.state.get(name) == fingerprint:
            return
        with exclusive(self.lock_file), step(title):
            self._uv_install(title, arguments)
            self.record(name, fingerprint)

    def _uv_install(self, title: str, arguments: Sequence[str]) -> None:
        command = [str(self.folder / "bin" / "uv"), "pip", "install"]
        run_command(title, [*command, "--python", str(self.python), *arguments])

    def install_wheel(self, requirement: str, sha256: str, target: Path) -> None:
        """Unpack the wheel `requirement`, which must have the hash `sha256`, into `target`."""
        listing = target / "wheel.txt"
        listing.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
        title = f"Fetching {requirement}"
        with step(title):
            self._uv_install(
                title,
                ["--no-deps", "--require-hashes", "--target", str(target), "-r", str(listing)],
            )

    def install_host(self, tree: Path, backend: str) -> None:
        """Install torch for `backend` (default, xpu or cpu) and what the host in `tree` needs.

        If PyTorch's index for the back end cannot be used, the default index serves, and a
        line says so. Raises `SetupError` if that fails too.
        """
        requirements = tree / "requirements.txt"
        inputs = requirements.read_text(encoding="utf-8") + TORCH_SET.read_text(encoding="utf-8")
        files = ["--override", str(TORCH_SET), "-r", str(TORCH_SET), "-r", str(requirements)]
        arguments = [*files, *UNDECLARED_HOST_REQUIREMENTS]
        title = "torch and ComfyUI's requirements (some GB, once)"
        wanted = hashlib.sha256(f"{backend} {inputs}".encode()).hexdigest()
        if backend != "default" and self.state.get("fallback") != wanted:
            try:
                self.install("host", title, ["--torch-backend", backend, *arguments], inputs)
                return
            except SetupError as error:
                reason = error.why.splitlines()[-1].strip() if error.why else error.what
                warn(f"PyTorch's {backend} index cannot be used: {reason}")
                warn("Using the default index, whose torch is built for CUDA and the CPU.")
        self.install("host", title, arguments, inputs)
        if backend != "default":
            self.record("fallback", wanted)

    def install_extension(self, tree: Path) -> None:
        """Install what this extension needs, after `install_host` for the same `tree`.

        The host's requirements are asked for again and torch's set overrides what packages say
        about torch, so that nothing which the host needs is replaced. Raises `SetupError`.
        """
        self._install_beside(tree, "extension", "This extension's requirements")

    def install_cluster(self, tree: Path) -> None:
        """Install what nodes of a cluster need, after `install_extension`. Raises `SetupError`."""
        self._install_beside(tree, "cluster", "Ray, for batches on several machines", RAY)

    def _install_beside(self, tree: Path, name: str, title: str, *packages: str) -> None:
        files = (EXTENSION_REQUIREMENTS, tree / "requirements.txt", TORCH_SET)
        inputs = "".join(path.read_text(encoding="utf-8") for path in files)
        own, host, torch_set = map(str, files)
        arguments = [*packages, "--override", torch_set, "-r", own, "-r", host]
        self.install(name, title, arguments, inputs)

    def probe(self, hardware: Hardware) -> TorchProbe:
        """Ask torch for its devices; the answer is remembered while nothing has changed.

        An answer that misses a GPU which the kernel shows is never remembered: its driver may
        be installed at any time.
        """
        key = f"{hardware} {self.state.get('host')}"
        known = self.state.get("probe", {})
        if known.get("key") == key:
            return TorchProbe(**known["answer"])
        printed = run_command("Asking torch for its devices", [str(self.python), "-c", _PROBE])
        answer = json.loads(printed.strip().splitlines()[-1])
        probe = TorchProbe(**answer)
        if probe.cuda or probe.xpu or not (hardware.nvidia or hardware.intel):
            self.record("probe", {"key": key, "answer": answer})
        return probe


def suitable_python() -> str:
    """An interpreter that torch has builds for: this one, else another on the PATH.

    Raises `SetupError` if there is none.
    """
    mine = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if mine in SUPPORTED_PYTHON:
        return sys.executable
    for version in reversed(SUPPORTED_PYTHON):
        found = shutil.which(f"python{version}")
        if found and subprocess.run([found, "-c", "import venv"], check=False).returncode == 0:
            return found
    raise SetupError(
        f"Python {mine} is not supported: torch has builds for {', '.join(SUPPORTED_PYTHON)}.",
        why="no other supported python3 is on the PATH",
        remedy="Install one, for example: sudo apt install python3.12 python3.12-venv",
    )
