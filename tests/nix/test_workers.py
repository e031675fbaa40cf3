"""A bundle with a worker: what is built, and a real server within the limits of its unit."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from built_servers import BuiltServer
from module_cases import WORKERS
from nix_bundle import HOME, NIXOS, WITH_A_WORKER, NixError, Workspace
from nix_confinement import confined
from nix_units import LIMITS, exposure, unit_file
from worker_scenes import difference, placed, report

FORBIDDEN = """
import errno, os, socket
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        print(errno.errorcode[error.errno])
refused(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)
refused(os.chown, ".", os.getuid(), os.getgid())
refused(os.setuid, os.getuid())
socket.socket(socket.AF_UNIX).close()
"""


def test_the_confined_server_computes_on_its_worker_what_it_computes_itself(
    on_the_cpu: BuiltServer,
) -> None:
    expected = on_the_cpu.run(placed())
    run = on_the_cpu.run(placed("6", "10"))
    assert difference(run, expected) <= 1
    loaded = report(on_the_cpu)["told"]["loaded"]
    assert {row["name"] for row in loaded if row["device"] == "xpu:0"} >= {"TAESD", "RRDBNet"}


def test_the_confinement_refuses_what_the_unit_refuses(
    workspace: Workspace, tmp_path: Path
) -> None:
    service = workspace.configured(NIXOS, WORKERS)["services"]["comfyui-ipex-both"]
    command = [*confined(service["serviceConfig"], tmp_path), "python3", "-c", FORBIDDEN]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["EAFNOSUPPORT", "EPERM", "EPERM"]


def test_the_bundle_names_its_workers_whose_pythons_hold_no_more_than_the_others(
    workspace: Workspace, with_a_worker: Path
) -> None:
    described = json.loads((with_a_worker / "share" / "comfyui-ipex" / "bundle.json").read_text())
    worker = described["workers"]["worker"]
    assert worker["kind"] == "xpu"
    environments = {worker["python"], described["backends"]["cpu"]["python"]}
    assert len(environments) == 2
    held = workspace.evaluate(
        f"let p = {WITH_A_WORKER}; in lib.mapAttrs (_: python: python.packages) "
        "{ worker = p.environments.xpu; none = project.comfyui-ipex.environments.xpu; }"
    )
    assert held["worker"] == held["none"]


def test_an_interpreter_of_ones_own_takes_the_place_of_the_bundles(workspace: Workspace) -> None:
    own = '{ arc = { kind = "xpu"; python = "/opt/xpu/bin/python"; }; }'
    made = workspace.build_expression(f"project.comfyui-cpu.withWorkers {own}")
    described = json.loads((made / "share" / "comfyui-ipex" / "bundle.json").read_text())
    assert described["workers"] == {"arc": {"kind": "xpu", "python": "/opt/xpu/bin/python"}}


@pytest.mark.parametrize("kind", [NIXOS, HOME])
def test_an_instance_runs_the_bundle_with_its_workers(workspace: Workspace, kind: str) -> None:
    found = workspace.configured(kind, WORKERS)
    unit = found["services"]["comfyui-ipex-both"]
    service = unit["serviceConfig"] if kind == NIXOS else unit["Service"]
    expected = workspace.evaluate(
        '(project.comfyui-cuda.withWorkers { arc.kind = "xpu"; }).outPath'
    )
    assert shlex.split(service["ExecStart"])[0] == f"{expected}/bin/comfyui-ipex"
    if kind == NIXOS:
        assert found["graphics"]["enable"] is True


def test_workers_cost_no_confinement(workspace: Workspace, tmp_path: Path) -> None:
    units = workspace.configured(NIXOS, WORKERS)["services"]
    text = unit_file({"Service": units["comfyui-ipex-both"]["serviceConfig"]})
    assert exposure("both", text, tmp_path) <= LIMITS[""]


@pytest.mark.parametrize(
    ("workers", "complaint"),
    [
        ('{ arc.kind = "rocm"; }', "unknown kinds of workers rocm"),
        ('{ Arc.kind = "xpu"; }', "unlike Arc"),
    ],
)
def test_a_worker_that_cannot_be_is_refused(
    workspace: Workspace, workers: str, complaint: str
) -> None:
    with pytest.raises(NixError, match=complaint):
        workspace.evaluate(f"(project.comfyui-cpu.withWorkers {workers}).drvPath")
