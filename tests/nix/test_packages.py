"""The shipped derivations, really built: with the stub's builder from ComfyUI's released tree."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts
import numpy as np
import pytest
import servers
import tomllib
from built_servers import BuiltServer
from comfyui_ipex.launcher.releases import read_version
from conftest import REPOSITORY
from nix_bundle import NixError, Workspace

COMMANDS = ("comfyui-ipex", "comfyui-cuda", "comfyui-xpu")

HELP_SECONDS = 60


@pytest.fixture(scope="module")
def on_a_card(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltServer]:
    """The built comfyui-xpu on an emulated card."""
    folder = tmp_path_factory.mktemp("built") / "xpu"
    program = str(bundle / "bin" / "comfyui-xpu")
    server = BuiltServer((program,), folder, emulator="--device a770")
    yield server
    server.close()


def test_the_source_is_the_release_with_the_whole_series(workspace: Workspace) -> None:
    tree = workspace.build("comfyui-src") / "share" / "comfyui"
    assert read_version(tree) == "0.3.47"
    patched = hosts.installed(hosts.PATCHED).tree.path
    for path in sorted(patched.rglob("*.py")):
        name = path.relative_to(patched)
        if name.parts[0] not in ("tests", "tests-unit", "script_examples", ".github", ".ci"):
            assert (tree / name).read_bytes() == path.read_bytes(), name


def help_of(program: Path) -> str:
    """What a command prints for --help."""
    return subprocess.run(
        [str(program), "--help"],
        capture_output=True,
        text=True,
        timeout=HELP_SECONDS,
        check=True,
    ).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_of_a_bundle_has_a_help(bundle: Path, name: str) -> None:
    printed = help_of(bundle / "bin" / name)
    assert f"{name}: ComfyUI for xpu." in printed
    assert "--force-intel-xpu" in printed


def test_a_bundle_can_hold_both_makers_torch(workspace: Workspace) -> None:
    built = workspace.build('comfyui-ipex.withBackends [ "cuda" "xpu" ]')
    for name in COMMANDS:
        assert f"{name}: ComfyUI for cuda, xpu." in help_of(built / "bin" / name)
    description = built / "share" / "comfyui-ipex" / "bundle.json"
    backends = json.loads(description.read_text(encoding="utf-8"))["backends"]
    assert {kind: held["torch"] for kind, held in backends.items()} == {
        "cuda": "2.9.0+cu",
        "xpu": "2.8.0+xpu",
    }
    assert len({held["python"] for held in backends.values()}) == 2


def test_a_bundle_without_cuda_says_how_to_have_it(bundle: Path) -> None:
    done = subprocess.run(
        [str(bundle / "bin" / "comfyui-cuda")],
        capture_output=True,
        text=True,
        timeout=HELP_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "which this bundle does not hold" in done.stderr
    assert "withBackends" in done.stderr


def test_the_built_server_loads_the_extension_from_the_store(on_the_cpu: BuiltServer) -> None:
    assert "Device: cpu (--cpu)" in on_the_cpu.log
    nodes = on_the_cpu.client.get_json("/object_info")
    assert "IpexSelectDevice" in nodes
    assert str(nodes["IpexSelectDevice"]["python_module"]).startswith("custom_nodes.")
    assert "-comfyui-ipex-extension-" in on_the_cpu.log


def test_a_workflow_on_an_emulated_card_equals_that_on_the_cpu(
    on_the_cpu: BuiltServer, on_a_card: BuiltServer
) -> None:
    expected = on_the_cpu.run(servers.workflow("img2img"))
    found = on_a_card.run(servers.workflow("img2img", "xpu:0"))
    assert len(found.images) == len(expected.images) == 1
    difference = np.abs(found.images[0].astype(int) - expected.images[0].astype(int))
    assert difference.max() <= 1
    assert "Device: xpu (comfyui-xpu)" in on_a_card.log
    calls = on_a_card.emulated_cards()[0]["op_calls"]
    assert calls["aten::convolution_overrideable"] > 0


def test_on_the_card_the_patched_source_is_what_serves(on_a_card: BuiltServer) -> None:
    report = on_a_card.client.get_json("/ipex/report", format="json")
    assert {row["state"] for row in report["seams"]} == {"not needed"}
    assert any("this host is patched" in row["detail"] for row in report["seams"])


def test_intels_libraries_lie_in_one_folder_and_each_once(workspace: Workspace) -> None:
    built = workspace.build("intel-oneapi-runtime")
    pins = json.loads((REPOSITORY / "nix" / "sources.json").read_text(encoding="utf-8"))
    names = pins["intelRuntime"].keys() - {"intel-cmplr-lic-rt"}
    libraries = list((built / "lib").iterdir())
    assert len(libraries) == 3 * len(names)
    assert {path.name for path in libraries if not path.is_symlink()} == {
        f"lib{name}.so.1.2" for name in names
    }
    for path in libraries:
        assert path.read_text() == path.name.removeprefix("lib").partition(".so")[0]
    licences = built / "share" / "licenses" / "intel-oneapi-runtime"
    assert (licences / "compiler" / "license.txt").exists()


def required(text: str) -> set[str]:
    """The distributions of a requirements file, in lower case."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return {re.split(r"[<>=~!\s]", line)[0].lower() for line in lines if line}


def test_the_pythons_hold_what_comfyui_and_the_extension_ask_for(workspace: Workspace) -> None:
    listed = workspace.evaluate(
        "import ./nix/python/requirements.nix { withAudio = true; withIpex = false; }"
    )
    host = workspace.stub / "comfyui" / "requirements.txt"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    own = "\n".join(project["project"]["dependencies"])
    asked = required(host.read_text(encoding="utf-8")) | required(own)
    # requests is imported by v0.3.47 without being asked for.
    assert set(listed) == asked | {"requests"}


def test_versions_that_are_pinned_are_those_asked_for(workspace: Workspace) -> None:
    sources = json.loads((REPOSITORY / "nix" / "sources.json").read_text(encoding="utf-8"))
    asked = (workspace.stub / "comfyui" / "requirements.txt").read_text(encoding="utf-8")
    for name, pin in sources["hostWheels"].items():
        assert f"{name}=={pin['version']}\n" in asked
    own = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    assert f"controlnet-aux=={sources['controlnet-aux']['version']}\n" in own
    assert sources["comfyui"]["rev"] in (REPOSITORY / "patches" / "README.md").read_text()


def test_model_folders_are_comfyuis_own(workspace: Workspace) -> None:
    ours: dict[str, list[str]] = workspace.evaluate("import ./nix/lib/model-folders.nix")
    text = (workspace.stub / "comfyui" / "folder_paths.py").read_text(encoding="utf-8")
    theirs = {
        name: re.findall(r'models_dir, "(\w+)"', rest)
        for name, rest in re.findall(r'folder_names_and_paths\["(\w+)"\] = (.*)', text)
    }
    theirs = {name: folders for name, folders in theirs.items() if folders}
    assert theirs.keys() == ours.keys() - {"annotators"}
    for name, folders in theirs.items():
        assert set(ours[name]) == set(folders)


@pytest.mark.parametrize("backend", ["cpu", "cuda", "xpu"])
def test_each_back_end_is_one_torch(workspace: Workspace, backend: str) -> None:
    chosen = f'project.comfyui-ipex.withBackends [ "{backend}" ]'
    found = workspace.evaluate(
        f"let p = {chosen}; in {{ inherit (p) backends; drv = p.drvPath; "
        f"torch = p.environments.{backend}.python.pkgs.torch.drvPath; "
        f"vision = p.environments.{backend}.python.pkgs.torchvision.drvPath; }}"
    )
    assert found["backends"] == [backend]
    assert found["torch"].endswith(
        {"cpu": "torch-2.9.0.drv", "cuda": "torch-bin-2.9.0.drv", "xpu": "torch-2.8.0.drv"}[backend]
    )


def test_packs_models_and_packages_are_added_to_a_bundle(workspace: Workspace) -> None:
    pack = (
        'project.mkCustomNode { pname = "pack"; version = "1"; src = ./nix/lib; '
        "pythonPackages = ps: [ ps.jinja2 ]; }"
    )
    model = '{ folder = "vae"; name = "a.safetensors"; src = ./flake.lock; }'
    built = workspace.build_expression(
        f"((project.comfyui-cpu.withNodes [ ({pack}) ]).withModels [ {model} ])"
        ".withPythonPackages (ps: [ ps.sympy ])"
    )
    described: dict[str, Any] = json.loads(
        (built / "share" / "comfyui-ipex" / "bundle.json").read_text(encoding="utf-8")
    )
    assert list(described["backends"]) == ["cpu"]
    assert described["nodes"] == ["comfyui-ipex", "pack"]
    paths = json.loads(Path(described["paths"]).read_text(encoding="utf-8"))
    folders = paths["nodes"]["custom_nodes"].split("\n")
    assert [next(Path(folder).iterdir()).name for folder in folders] == described["nodes"]
    model_file = Path(paths["models"]["vae"]) / "a.safetensors"
    assert model_file.read_bytes() == (workspace.project / "flake.lock").read_bytes()


def test_an_unknown_back_end_is_refused(workspace: Workspace) -> None:
    with pytest.raises(NixError, match="unknown backends rocm; known are cpu cuda xpu"):
        workspace.evaluate('(project.comfyui-ipex.withBackends [ "rocm" ]).drvPath')


def test_ipex_is_there_for_who_asks(workspace: Workspace) -> None:
    packages = "(project.comfyui-ipex.override { withIpex = true; }).environments.xpu.packages"
    names = workspace.evaluate(packages)
    assert any("intel-extension-for-pytorch-2.8.10" in name for name in names)
    usual = workspace.evaluate("project.comfyui-ipex.environments.xpu.packages")
    assert not any("intel-extension" in name for name in usual)
    assert not any("torchaudio" in name for name in usual)


def test_the_benchmarks_run_on_the_bundles_host(workspace: Workspace) -> None:
    program = str(workspace.build("ipex-benchmarks") / "bin" / "ipex-benchmarks")
    listed = subprocess.run([program, "list"], capture_output=True, text=True, check=True)
    assert "SD 1.5 UNet" in listed.stdout
    unknown = [program, "--suite", "none"]
    wrong = subprocess.run(unknown, capture_output=True, text=True, check=False)
    assert wrong.returncode != 0
    assert "There is no suite none" in wrong.stdout + wrong.stderr
