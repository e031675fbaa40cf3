"""The extension in each host: what it adds, what it costs, what it leaves alone."""

import sys
from pathlib import Path
from typing import Any

import hosts
import probes
import pytest
from comfyui_ipex import nodes
from comfyui_ipex.launcher.client import WorkflowError
from comfyui_ipex.launcher.installation import EXTENSION_NAME
from conftest import REPOSITORY
from servers import Configuration, ServerPool, workflow

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def loading(host_version: str) -> dict[str, Any]:
    """What prestart and loading did in a process of the host, with no GPU in sight."""
    return dict(probes.ask(hosts.installed(host_version), "load_extension", str(REPOSITORY)))


def test_the_nodes_are_registered(loading: dict[str, Any]) -> None:
    assert loading["loaded"]
    assert loading["nodes"] == sorted(nodes.NODE_CLASS_MAPPINGS)


def test_without_an_xpu_nothing_in_model_management_changes(loading: dict[str, Any]) -> None:
    assert loading["changed"] == []


# The host registers the pack under its path, with dots replaced.
OWN = str(REPOSITORY).replace(".", "_x_")


def test_loading_imports_nothing_but_the_extension(loading: dict[str, Any]) -> None:
    assert [module for module in loading["modules"] if not module.startswith(OWN)] == []


def test_prestart_imports_nothing_but_the_extension_and_the_standard_library(
    loading: dict[str, Any],
) -> None:
    foreign = {
        module.partition(".")[0]
        for module in loading["prestart"]["modules"]
        if not module.startswith(OWN)
    }
    assert foreign <= sys.stdlib_module_names
    assert f"{OWN}.xpu_runtime.prestart" in loading["prestart"]["modules"]


def test_prestart_prints_and_logs_nothing_where_nothing_is_needed(
    loading: dict[str, Any],
) -> None:
    assert loading["prestart"]["printed"] == ""
    assert loading["prestart"]["log"] == []


def test_the_pack_takes_up_the_modules_that_prestart_loaded(loading: dict[str, Any]) -> None:
    runtime = f"{OWN}.xpu_runtime.runtime"
    assert runtime in loading["prestart"]["modules"]
    assert runtime not in loading["modules"]


def test_loading_prints_nothing_and_logs_one_line(loading: dict[str, Any]) -> None:
    assert loading["printed"] == ""
    own = [line for line in loading["log"] if line[0] == "comfyui-ipex"]
    assert len(own) == 1
    assert own[0][1] == "INFO"
    assert "nothing is changed" in own[0][2]


def test_the_page_gets_tooltips_description_and_help(pool: ServerPool, host_version: str) -> None:
    client = pool.get(Configuration(host_version)).client
    for name in nodes.NODE_CLASS_MAPPINGS:
        info = client.get_json(f"/object_info/{name}")[name]
        assert info["description"]
        assert info["display_name"] == nodes.NODE_DISPLAY_NAME_MAPPINGS[name]
        for inputs in info["input"].values():
            assert all(spec[1]["tooltip"] for spec in inputs.values())
        page = client.get(f"/extensions/{EXTENSION_NAME}/docs/{name}.md")
        assert page == (REPOSITORY / "web" / "docs" / f"{name}.md").read_bytes()


def test_a_workflow_that_names_an_absent_device_runs_on_auto(
    pool: ServerPool, host_version: str
) -> None:
    server = pool.get(Configuration(host_version))
    assert server.run(workflow("txt2img", "xpu:7")).images
    warning = next(line for line in server.log.splitlines() if "'xpu:7'" in line)
    assert "does not have" in warning
    assert "auto (cpu)" in warning


def test_a_workflow_that_names_no_device_is_refused(pool: ServerPool, host_version: str) -> None:
    with pytest.raises(WorkflowError, match="is no device"):
        pool.get(Configuration(host_version)).run(workflow("txt2img", "gpu-please"))


def test_the_host_tree_is_not_written_to(pool: ServerPool, host_version: str) -> None:
    pool.get(Configuration(host_version))
    tree = hosts.installed(host_version).tree.path
    assert not list(tree.rglob("__pycache__"))
    assert not list(Path(tree, "user").glob("**/*.db"))
