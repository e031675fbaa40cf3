"""A host's main.py from start to end, without serving: what it says and how it ends."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hosts
import probes
from comfyui_ipex.launcher.folders import child_environment
from comfyui_ipex.launcher.installation import EXTENSION_NAME, link_extension
from conftest import REPOSITORY

START_SECONDS = 300

SPY = Path(__file__).parent / "host" / "probes" / "spy"

# What the host needs of this repository to load it as a pack.
PACK = ("__init__.py", "inference", "nodes", "web", "xpu_runtime", "pyproject.toml")


@dataclass(frozen=True)
class Outcome:
    """How a start ended."""

    status: int
    words: str
    """Everything that was printed."""
    seen: dict[str, Any]
    """What the spy saw; empty if it was not there, or if the host never loaded packs."""


def base_folder(base: Path, extension: bool = True, spy: bool = False) -> Path:
    """A base directory with this extension and the spy among its packs, or without them."""
    packs = base / "custom_nodes"
    packs.mkdir(parents=True)
    if extension:
        link_extension(base)
    if spy:
        (packs / "spy").symlink_to(SPY)
    return base


def started_by_another_name(base: Path, first: str = "") -> Path:
    """A base directory where another pack runs our prestartup_script.py by another path.

    `first` is a line of Python that it runs before. Our modules then exist twice.
    """
    base_folder(base, extension=False, spy=True)
    other = base / "custom_nodes" / "other"
    other.mkdir()
    script = REPOSITORY / "prestartup_script.py"
    (other / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    lines = (first, "import runpy", f"runpy.run_path({str(script)!r})", "")
    (other / "prestartup_script.py").write_text("\n".join(lines))
    pack = base / "custom_nodes" / EXTENSION_NAME
    pack.mkdir()
    for name in PACK:
        (pack / name).symlink_to(REPOSITORY / name)
    return base


def start(
    host_version: str,
    base: Path,
    arguments: Sequence[str] = (),
    cards: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    python_path: Path | None = None,
) -> Outcome:
    """Start a host until it would serve, on emulated `cards` or on none at all.

    `python_path` is a folder of packages that come before the installed ones.
    """
    host = hosts.installed(host_version)
    emulator = ["-m", "xpu_emulator", *cards, "--"] if cards else []
    command = [str(host.python), *emulator, "main.py", "--base-directory", str(base)]
    command += ["--database-url", "sqlite:///:memory:", "--quick-test-for-ci", *arguments]
    command.append("--disable-api-nodes")  # nothing here is about them, and they load slowly
    report = base / "spy.json"
    report.unlink(missing_ok=True)
    environment = {**child_environment(), **probes.NO_REAL_GPU, "OMP_NUM_THREADS": "1"}
    environment |= {"SPY_REPORT": str(report), **(settings or {})}
    environment["PYTHONPATH"] = str(python_path or Path(__file__).parent)
    done = subprocess.run(
        command,
        cwd=host.tree.path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    seen = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return Outcome(done.returncode, done.stdout, seen)
