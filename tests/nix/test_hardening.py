"""systemd's own judgement of every unit, as rendered, and of the times that they name."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from debian_programs import program
from nix_bundle import HOME, NIXOS, Workspace, unit_file

EXAMPLE = "./nix/tests/two-instances.nix"

# 0 is the best, 10 the worst.
LIMIT = 1.6


def rendered(workspace: Workspace, kind: str) -> dict[str, str]:
    """Unit name -> its file."""
    services = workspace.configured(kind, EXAMPLE)["services"]
    return {name: unit_file(sections(unit)) for name, unit in services.items()}


def sections(unit: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A NixOS service or a Home Manager unit as sections of a file."""
    if "serviceConfig" in unit:
        return {"Unit": {"Description": unit["description"]}, "Service": unit["serviceConfig"]}
    # The manager of a user runs everything as that user; a file alone is judged as root's.
    return {**unit, "Service": {**unit["Service"], "User": "ada"}}


def exposure(name: str, text: str, folder: Path) -> float:
    """What `systemd-analyze security` makes of a unit."""
    path = folder / f"{name}.service"
    path.write_text(text, encoding="utf-8")
    analyze = program("systemd-analyze", "systemd")
    done = subprocess.run(
        [str(analyze.path), "security", "--offline=true", "--no-pager", str(path)],
        env=analyze.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


@pytest.mark.parametrize("kind", [NIXOS, HOME])
def test_every_unit_is_confined(workspace: Workspace, kind: str, tmp_path: Path) -> None:
    units = rendered(workspace, kind)
    assert len(units) == 8
    found = {name: exposure(name, text, tmp_path) for name, text in units.items()}
    assert {name: value for name, value in found.items() if value > LIMIT} == {}


def test_a_unit_that_is_not_confined_is_seen(tmp_path: Path) -> None:
    bare = unit_file({"Service": {"User": "comfyui-ipex", "ExecStart": "/bin/true"}})
    assert exposure("bare", bare, tmp_path) > 5


def test_systemd_understands_the_units(workspace: Workspace, tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    for name, text in rendered(workspace, NIXOS).items():
        runnable = re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE)
        path = tmp_path / f"{name}.service"
        path.write_text(runnable, encoding="utf-8")
        done = subprocess.run(
            [str(analyze.path), "verify", "--man=no", str(path)],
            env=analyze.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        complaints = [line for line in done.stderr.splitlines() if name in line]
        assert complaints == []


def test_systemd_understands_the_times(workspace: Workspace) -> None:
    analyze = program("systemd-analyze", "systemd")
    timers = workspace.configured(NIXOS, EXAMPLE)["timers"]
    asked = [
        ("calendar" if key == "OnCalendar" else "timespan", value)
        for timer in timers.values()
        for key, value in timer["timerConfig"].items()
        if key != "Persistent"
    ]
    assert len(asked) == 8
    for verb, value in set(asked):
        command = [str(analyze.path), verb, value]
        assert subprocess.run(command, env=analyze.environment(), check=False).returncode == 0
