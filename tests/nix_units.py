"""Units as the modules render them, and what systemd says of them."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from debian_programs import program
from nix_bundle import Workspace

EXAMPLE = "./nix/tests/two-instances.nix"

# The most that each kind of unit may be exposed: 0 is the best, 10 the worst, and 1.6 what the
# best module elsewhere comes to.
LIMITS = {"-backup": 0.2, "-cleanup": 0.2, "-monitor": 0.9, "-restart": 0.6, "": 1.4}


def rendered(workspace: Workspace, kind: str) -> dict[str, str]:
    """Unit name -> its file, of the module's example."""
    services = workspace.configured(kind, EXAMPLE)["services"]
    return {name: unit_file(_sections(unit)) for name, unit in services.items()}


def _sections(unit: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A NixOS service or a Home Manager unit as sections of a file."""
    if "serviceConfig" in unit:
        return {"Unit": {"Description": unit["description"]}, "Service": unit["serviceConfig"]}
    # The manager of a user runs everything as that user; a file alone is judged as root's.
    return {**unit, "Service": {**unit["Service"], "User": "ada"}}


def unit_file(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """A unit as systemd reads it."""
    lines = []
    for section, settings in sections.items():
        lines.append(f"[{section}]")
        for name, value in settings.items():
            lines += [f"{name}={_written(one)}" for one in _as_list(value)]
    return "\n".join(lines) + "\n"


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run systemd-analyze."""
    found = program("systemd-analyze", "systemd")
    return subprocess.run(
        [str(found.path), *arguments],
        env=found.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def exposure(name: str, text: str, folder: Path) -> float:
    """What `systemd-analyze security` makes of a unit."""
    path = folder / f"{name}.service"
    path.write_text(text, encoding="utf-8")
    done = analyze("security", "--offline=true", "--no-pager", str(path))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


def limit(name: str) -> float:
    """How exposed a unit of this name may be."""
    return next(value for suffix, value in LIMITS.items() if name.endswith(suffix))


def too_exposed(units: Mapping[str, str], folder: Path) -> dict[str, float]:
    """The units that are over their limit."""
    found = {name: exposure(name, text, folder) for name, text in units.items()}
    return {name: value for name, value in found.items() if value > limit(name)}


def complaints(units: Mapping[str, str], folder: Path) -> list[str]:
    """What `systemd-analyze verify` has against units; their programs need not be there."""
    found = []
    for name, text in units.items():
        runnable = re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE)
        path = folder / f"{name}.service"
        path.write_text(runnable, encoding="utf-8")
        done = analyze("verify", "--man=no", str(path))
        found += [line for line in done.stderr.splitlines() if name in line]
    return found
