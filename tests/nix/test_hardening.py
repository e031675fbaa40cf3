"""systemd's own judgement of every unit, as rendered, and of the times that they name."""

from pathlib import Path

import pytest
from nix_bundle import HOME, NIXOS, Workspace
from nix_units import (
    EXAMPLE,
    LIMITS,
    analyze,
    complaints,
    exposure,
    rendered,
    too_exposed,
    unit_file,
)


@pytest.mark.parametrize("kind", [NIXOS, HOME])
def test_every_unit_is_confined(workspace: Workspace, kind: str, tmp_path: Path) -> None:
    units = rendered(workspace, kind)
    assert len(units) == 8
    assert max(LIMITS.values()) <= 1.6
    assert too_exposed(units, tmp_path) == {}


def test_a_unit_that_is_not_confined_is_seen(tmp_path: Path) -> None:
    bare = unit_file({"Service": {"User": "comfyui-ipex", "ExecStart": "/bin/true"}})
    assert exposure("bare", bare, tmp_path) > 5


@pytest.mark.parametrize("kind", [NIXOS, HOME])
def test_systemd_understands_the_units(workspace: Workspace, kind: str, tmp_path: Path) -> None:
    assert complaints(rendered(workspace, kind), tmp_path) == []


def test_systemd_understands_the_times(workspace: Workspace) -> None:
    timers = workspace.configured(NIXOS, EXAMPLE)["timers"]
    asked = {
        ("calendar" if key == "OnCalendar" else "timespan", value)
        for timer in timers.values()
        for key, value in timer["timerConfig"].items()
        if key != "Persistent"
    }
    assert asked >= {("calendar", "daily"), ("calendar", "weekly"), ("timespan", "1min")}
    for verb, value in asked:
        assert analyze(verb, value).returncode == 0, value
