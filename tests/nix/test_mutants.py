"""Mistakes in the Nix files that the other tests must see: each is made, and is caught."""

from pathlib import Path

import pytest
from nix_bundle import NIXOS, NixError, Workspace, mutated
from nix_units import complaints, rendered, too_exposed

HARDENING = "nix/lib/hardening.nix"
SOURCES = "nix/sources.json"
SERIES = "nix/packages/comfyui-src.nix"
MEMORY_PATCH = "patches/0007-system-stats.patch"


@pytest.mark.parametrize(
    "weaker",
    [
        ("    NoNewPrivileges = true;", "    NoNewPrivileges = false;"),
        ("    PrivateUsers = true;", "    PrivateUsers = false;"),
        ('    ProtectSystem = "strict";', "    ProtectSystem = false;"),
        ("    RestrictNamespaces = true;", "    RestrictNamespaces = false;"),
        ('    CapabilityBoundingSet = "";\n', ""),
    ],
    ids=lambda change: change[0].split()[0],
)
def test_weaker_confinement_is_seen(
    workspace: Workspace, tmp_path: Path, weaker: tuple[str, str]
) -> None:
    changed = mutated(workspace, tmp_path, HARDENING, *weaker)
    assert len(too_exposed(rendered(changed, NIXOS), tmp_path)) == 8


def test_a_misspelt_setting_of_systemd_is_seen(workspace: Workspace, tmp_path: Path) -> None:
    changed = mutated(workspace, tmp_path, HARDENING, "ProtectClock =", "ProtectClocks =")
    assert "ProtectClocks" in "".join(complaints(rendered(changed, NIXOS), tmp_path))


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("nix/modules/nixos.nix", "tmpfiles.rules =", "tmpfile.rules =", "does not exist"),
        ("nix/modules/nixos.nix", "serviceConfig =", "serviceConfigs =", "does not exist"),
        ("nix/modules/units.nix", "instance.modelsDir;", "instance.modelDir;", "modelDir"),
        ("nix/modules/instance.nix", "config.workers)", "config.worker)", "worker' missing"),
        ("nix/modules/instance.nix", "types.functionTo (", "types.functionsTo (", "functionsTo"),
    ],
)
def test_a_misspelt_option_is_seen(
    workspace: Workspace, tmp_path: Path, file: str, old: str, new: str, words: str
) -> None:
    changed = mutated(workspace, tmp_path, file, old, new)
    with pytest.raises(NixError, match=words):
        rendered(changed, NIXOS)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("nix/python/requirements.nix", '"spandrel"', '"spandrell"'),
        ("nix/python/xpu.nix", "final.networkx", "final.networks"),
        ("nix/packages/extension.nix", "ps.controlnet-aux", "ps.controlnetaux"),
    ],
)
def test_an_unknown_dependency_is_seen(
    workspace: Workspace, tmp_path: Path, file: str, old: str, new: str
) -> None:
    changed = mutated(workspace, tmp_path, file, old, new)
    wrong = new.strip('"').rpartition(".")[2]
    with pytest.raises(NixError, match=wrong):
        changed.evaluate(
            "let p = project.comfyui-xpu; t = p.environments.xpu.python.pkgs; "
            "in [ p.drvPath t.torch.drvPath t.controlnet-aux.drvPath ]"
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "sha256-Kcw91IC1yPzn2NeBLTUyJ2AdFkTdE9v8j6iabK",
            "sha256:Kcw91IC1yPzn2NeBLTUyJ2AdFkTdE9v8",
        ),
        ("sha256-ZZkiWk6DcU2MM7a/3q+9", "sha256-ZZkiWk6DcU2MM7a/3q+9AA"),
        ("+BK4lZlGYQMIyI6NL266ZluZbGtRyvYTWtmWWzHqJKM=", "+BK4lZlGYQMIyI6NL266Zlu"),
        ("sha256-MdwmWlREi9zuAzoTC0dC", "sha512-MdwmWlREi9zuAzoTC0dC"),
    ],
)
def test_a_hash_of_another_form_is_seen(
    workspace: Workspace, tmp_path: Path, old: str, new: str
) -> None:
    changed = mutated(workspace, tmp_path, SOURCES, old, new)
    with pytest.raises(NixError, match="is no hash in SRI form"):
        changed.evaluate(
            "let p = project.comfyui-xpu; t = p.environments.xpu.python.pkgs; "
            "in [ p.drvPath t.torch.drvPath t.comfyui-embedded-docs.drvPath "
            "t.controlnet-aux.drvPath ]"
        )


def stale(workspace: Workspace, folder: Path) -> Workspace:
    """A workspace in which a patch has another line of context than the release."""
    patch = (workspace.project / MEMORY_PATCH).read_text(encoding="utf-8")
    context = next(line for line in patch.splitlines() if line.startswith(" ") and line.strip())
    return mutated(workspace, folder, MEMORY_PATCH, f"\n{context}\n", f"\n{context} # changed\n")


def test_a_stale_patch_is_seen(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NixError, match="hunk"):
        stale(workspace, tmp_path).build("comfyui-src")


def test_without_its_flag_patch_would_take_a_stale_one(
    workspace: Workspace, tmp_path: Path
) -> None:
    changed = stale(workspace, tmp_path / "stale")
    flagless = mutated(changed, tmp_path, SERIES, '    "--fuzz=0"\n', "")
    assert flagless.build("comfyui-src").exists()
