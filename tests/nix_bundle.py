"""The project's Nix files, evaluated and built against the stub of nixpkgs, without a network."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hosts
from comfyui_ipex.launcher.console import run_command
from comfyui_ipex.launcher.releases import USER_FOLDERS
from conftest import REPOSITORY
from debian_programs import program

SETTINGS = """
experimental-features = nix-command flakes
sandbox = false
substituters =
flake-registry =
build-users-group =
warn-dirty = false
"""

NIXOS = "nixos.nix"
HOME = "home.nix"

# ComfyUI on the CPU, with a worker whose Python is that for Intel GPUs.
WITH_A_WORKER = (
    '((project.comfyui-ipex.withBackends [ "cpu" "xpu" ]).withWorkers { worker.kind = "xpu"; })'
)

MODULES = {NIXOS: "nixos.nix", HOME: "home-manager.nix"}

EVALUATION_SECONDS = 120


class NixError(Exception):
    """What nix said when it refused."""


@dataclass(frozen=True)
class Workspace:
    """A copy of the project and of the stub, with a store of its own."""

    folder: Path
    project: Path
    """The project as git knows it."""

    @property
    def stub(self) -> Path:
        """The stub of nixpkgs, with ComfyUI's released tree and the tests' Python."""
        return self.folder / "stub"

    @property
    def overrides(self) -> tuple[str, ...]:
        """Flake options: the stub in place of the locked nixpkgs."""
        instead = ("--override-input", "nixpkgs", f"path:{self.stub}")
        return (*instead, "--no-write-lock-file", "--offline")

    def nix(self, command: str, *arguments: str) -> str:
        """Run one of nix' commands; returns what it printed. Raises `NixError`."""
        nix = program("nix", "nix-bin")
        done = subprocess.run(
            [str(nix.path.with_name(command)), *arguments],
            env=self._environment(),
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=EVALUATION_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise NixError(done.stderr)
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        nix = program("nix", "nix-bin")
        state = self.folder / "nix"
        settings = SETTINGS
        if nix.root is not None:
            settings += f"build-hook = {nix.root}/usr/libexec/nix/build-remote\n"
        own = {
            "HOME": str(state / "home"),
            "XDG_CACHE_HOME": str(state / "cache"),
            "NIX_CONFIG": settings,
            "NIX_STORE_DIR": str(state / "store"),
            "NIX_STATE_DIR": str(state / "var"),
            "NIX_LOG_DIR": str(state / "log"),
            "NIX_CONF_DIR": str(state / "etc"),
        }
        inherited = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        return nix.environment({**inherited, **own})

    def evaluate(self, expression: str, lib: str | None = None) -> Any:
        """The value of an expression in which `pkgs` is the stub. Raises `NixError`.

        `lib` is a path of nixpkgs' lib; without one the stub's own serves.
        """
        return json.loads(self._evaluated(expression, lib or f"{self.stub}/lib"))

    def _evaluated(self, expression: str, lib: str) -> str:
        whole = self._with_names(expression, lib)
        return self.nix("nix-instantiate", "--eval", "--strict", "--json", "-E", whole)

    def _with_names(self, expression: str, lib: str) -> str:
        return (
            f"let lib = import {lib}; pkgs = import {self.stub} {{ inherit lib; }}; "
            f"project = import ./default.nix {{ inherit pkgs; }}; in {expression}"
        )

    def configured(self, kind: str, *modules: str) -> dict[str, Any]:
        """What modules, as expressions, come to under NixOS or Home Manager."""
        return dict(json.loads(self.configured_text(kind, *modules)))

    def configured_text(self, kind: str, *modules: str, lib: str | None = None) -> str:
        """The same as text, with the stub's lib or another one."""
        listed = " ".join(f"({module})" for module in modules)
        return self._evaluated(
            "import ./nix/tests/observe.nix { inherit pkgs; "
            f"evaluate = import {self.stub}/{kind}; "
            f"modules = [ ./nix/modules/{MODULES[kind]} {listed} ]; }}",
            lib or f"{self.stub}/lib",
        )

    def build(self, attribute: str) -> Path:
        """Build an attribute of default.nix. Raises `NixError`."""
        return self.build_expression(f"project.{attribute}")

    def build_expression(self, expression: str) -> Path:
        """Build an expression in which `project` is default.nix. Raises `NixError`."""
        whole = self._with_names(expression, f"{self.stub}/lib")
        return Path(self.nix("nix-build", "--no-out-link", "-E", whole).strip())


def copied_project(target: Path) -> Path:
    """A copy of the files that git knows."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = run_command("Listing the project's files", command, cwd=REPOSITORY)
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    return target


def prepared(folder: Path, python: str = sys.executable) -> Workspace:
    """A fresh workspace in `folder`."""
    workspace = Workspace(folder, copied_project(folder / "project"))
    shutil.copytree(workspace.project / "nix" / "tests" / "stub", workspace.stub)
    released = hosts.installed(hosts.REFERENCE).tree.path
    shutil.copytree(
        released, workspace.stub / "comfyui", ignore=partial(what_a_user_added, released)
    )
    machine = json.dumps({"python": python})
    (workspace.stub / "machine.json").write_text(machine, encoding="utf-8")
    (folder / "nix" / "home").mkdir(parents=True)
    write_wheels(workspace.stub / "wheels")
    return workspace


def what_a_user_added(root: Path, folder: str, names: list[str]) -> list[str]:
    """What is not copied of a ComfyUI, which may be a user's own: models, pictures, packs."""
    path = Path(folder)
    top = (*path.relative_to(root).parts, "")[0]
    files = [name for name in names if (path / name).is_file()]
    if top == "custom_nodes":
        return [name for name in names if name not in files]
    if top in USER_FOLDERS:
        return files
    return [name for name in names if name in (".git", "__pycache__")]


def write_wheels(folder: Path) -> None:
    """Wheels by the names of Intel's, laid out as those are, each with one tiny library."""
    folder.mkdir()
    sources = json.loads((REPOSITORY / "nix" / "sources.json").read_text(encoding="utf-8"))
    for name, pin in sources["intelRuntime"].items():
        data = "-".join(pin["wheel"].split("-")[:2]) + ".data/data"
        with zipfile.ZipFile(folder / pin["wheel"], "w") as wheel:
            if name == "intel-cmplr-lic-rt":
                wheel.writestr(f"{data}/licensing/compiler/license.txt", "a licence")
                continue
            # The same library by all of its names, as in a wheel, which holds no links.
            for suffix in ("so", "so.1", "so.1.2"):
                wheel.writestr(f"{data}/lib/lib{name}.{suffix}", name)


def mutated(workspace: Workspace, folder: Path, file: str, old: str, new: str) -> Workspace:
    """A workspace whose project, in `folder`, differs in one place of one file."""
    changed = shutil.copytree(workspace.project, folder / "project")
    text = (changed / file).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
    (changed / file).write_text(text.replace(old, new), encoding="utf-8")
    return Workspace(workspace.folder, changed)
