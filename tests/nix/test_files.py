"""Every Nix file, the flake as a whole, and the pins."""

import base64
import binascii
import json
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY
from module_cases import MERGED, MODULE_SYSTEM
from nix_bundle import Workspace

SOURCES = json.loads((REPOSITORY / "nix" / "sources.json").read_text(encoding="utf-8"))


def nix_files(folder: Path) -> list[Path]:
    """Every Nix file of a copy of the project."""
    return sorted(folder.rglob("*.nix"))


def test_every_file_parses(workspace: Workspace) -> None:
    files = nix_files(workspace.project)
    assert len(files) > 30
    workspace.nix("nix-instantiate", "--parse", *map(str, files))


def test_files_are_written_in_one_style(workspace: Workspace) -> None:
    for path in nix_files(workspace.project):
        text = path.read_text(encoding="utf-8")
        assert text.isascii(), path
        assert text.endswith("\n") and not text.endswith("\n\n"), path
        assert text.count("\n") <= 400, path
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{path.relative_to(workspace.project)}:{number}"
            assert "\t" not in line and line == line.rstrip(), where
            # Lists of two or more stand one a line, as nixfmt has them.
            assert not re.search(r'= \[ "[^"]*" "', line), where


def test_the_flake_shows_its_outputs(workspace: Workspace) -> None:
    shown = json.loads(
        workspace.nix(
            "nix", "flake", "show", "--json", f"path:{workspace.project}", *workspace.overrides
        )
    )
    system = "x86_64-linux"
    assert set(shown["apps"][system]) >= {"comfyui-cuda", "comfyui-ipex", "comfyui-xpu", "default"}
    assert set(shown["packages"][system]) >= {
        "comfyui-cuda-worker-xpu",
        "comfyui-ipex",
        "comfyui-src",
        "ipex-benchmarks",
    }
    assert set(shown["checks"][system]) == {"formatting", "lints", "module", "package", "vm"}
    assert set(shown["nixosModules"]) == {"default", "ollama-ipex"}
    assert shown["homeModules"] and shown["overlays"]["default"] and shown["templates"]["default"]
    assert shown["devShells"][system]["default"] and shown["formatter"][system]


def test_the_flake_is_sound(workspace: Workspace) -> None:
    flake = f"path:{workspace.project}"
    workspace.nix("nix", "flake", "check", "--no-build", flake, *workspace.overrides)


def test_checks_that_need_no_network_build(workspace: Workspace) -> None:
    flake = f"path:{workspace.project}"
    wanted = [f"{flake}#checks.x86_64-linux.{name}" for name in ("module", "package", "vm")]
    workspace.nix("nix", "build", "--no-link", *wanted, *workspace.overrides)


@pytest.mark.parametrize(
    "name", ["comfyui-ipex", "comfyui-cuda", "comfyui-xpu", "comfyui-cuda-worker-xpu"]
)
def test_each_command_runs_from_the_flake(workspace: Workspace, name: str) -> None:
    flake = f"path:{workspace.project}#{name}"
    printed = workspace.nix("nix", "run", flake, *workspace.overrides, "--", "--help")
    assert "--force-intel-xpu" in printed


def test_the_lock_names_one_commit_of_nixpkgs() -> None:
    lock = json.loads((REPOSITORY / "flake.lock").read_text(encoding="utf-8"))
    assert set(lock["nodes"]) == {"nixpkgs", "root"}
    locked = lock["nodes"]["nixpkgs"]["locked"]
    assert re.fullmatch("[0-9a-f]{40}", locked["rev"])
    assert_is_sri(locked["narHash"])


def assert_is_sri(text: str) -> None:
    """Fail unless `text` is a SHA-256 in SRI form."""
    kind, _, digest = text.partition("-")
    assert kind == "sha256"
    try:
        assert len(base64.b64decode(digest, validate=True)) == 32
    except binascii.Error as error:
        raise AssertionError(f"{text} is no hash") from error


def hashes(value: object) -> list[str]:
    """Every hash below a value of sources.json."""
    if not isinstance(value, dict):
        return []
    own = [value["hash"]] if "hash" in value else []
    return own + [found for inner in value.values() for found in hashes(inner)]


def test_every_pin_has_a_hash_of_its_own() -> None:
    found = hashes(SOURCES)
    assert len(found) == len(set(found)) == 29
    for text in found:
        assert_is_sri(text)


def test_a_wheels_name_says_its_version() -> None:
    for group in (SOURCES["hostWheels"], SOURCES["intelRuntime"]):
        for name, pin in group.items():
            assert pin["wheel"].startswith(f"{name.replace('-', '_')}-{pin['version']}-")
    for name in ("torch", "torchvision", "triton", "ipex"):
        pin = SOURCES["xpu"][name]
        assert f"-{pin['version']}" in pin["url"]
        assert f"-cp{SOURCES['xpu']['python'].replace('.', '')}-" in pin["url"]


def test_the_stubs_module_system_merges_as_nixpkgs_does(workspace: Workspace) -> None:
    assert workspace.evaluate(MODULE_SYSTEM) == MERGED


def test_the_script_of_the_virtual_machine_is_python(workspace: Workspace) -> None:
    script = workspace.evaluate("(import ./nix/tests/vm.nix).testScript")
    compile(script, "testScript", "exec")


def test_the_template_makes_a_machine_of_the_flake(workspace: Workspace) -> None:
    template = f"path:{workspace.project}/nix/templates/default"
    own = ("--override-input", "comfyui-ipex", f"path:{workspace.project}")
    nixpkgs = ("--override-input", "comfyui-ipex/nixpkgs", f"path:{workspace.stub}")
    services = f"{template}#nixosConfigurations.machine.config.systemd.services"
    listed = ("--apply", "builtins.attrNames", "--json")
    offline = ("--no-write-lock-file", "--offline")
    named = json.loads(workspace.nix("nix", "eval", services, *listed, *own, *nixpkgs, *offline))
    assert {"comfyui-ipex-arc", "comfyui-ipex-geforce"} < set(named)
