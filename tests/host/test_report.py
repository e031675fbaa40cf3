"""XPU Report in real servers: the node, the route, and /system_stats."""

import getpass
import json
import platform
from pathlib import Path
from typing import Any

import pytest
import report_contents
import servers
from comfyui_ipex.xpu_runtime.report import NOTHING_CHANGED
from servers import TWO_CARDS, Configuration, ServerPool

pytestmark = pytest.mark.host

DEVICES = ["cpu", "xpu:1"]


def server_on(pool: ServerPool, version: str, device: str) -> servers.ComfyServer:
    """The server on which the other tests run workflows on `device`."""
    return pool.get(servers.on_device(version, device))


@pytest.mark.parametrize("device", DEVICES)
def test_the_node_shows_its_text_and_hands_it_on_anew_each_time(
    pool: ServerPool, host_version: str, device: str
) -> None:
    server = server_on(pool, host_version, device)
    workflow = servers.workflow("xpu_report", device)
    # Not `run_fresh`: what it asks the server to forget may be forgotten after its own run only.
    run = server.run(workflow)
    assert run.said("9") == run.said("10") != ""
    assert f"ComfyUI         {server.host.version}" in run.said("9")
    again = server.run(workflow)
    assert "9" in again.executed
    assert "6" not in again.executed


def test_without_an_xpu_the_report_says_that_nothing_is_changed(
    pool: ServerPool, host_version: str
) -> None:
    text = server_on(pool, host_version, "cpu").client.get("/ipex/report").decode()
    assert NOTHING_CHANGED in text
    assert "cpu, forced by --cpu\n" in text
    assert "cannot be read" not in text


def test_the_report_knows_the_cards_the_models_and_the_changes(
    pool: ServerPool, host_version: str
) -> None:
    server = server_on(pool, host_version, "xpu:1")
    workflow = servers.workflow("txt2img", "xpu:1")
    server.run_fresh(workflow)
    # The host may forget its models after that run instead of before, but not after this one.
    sampler = next(node for node in workflow.values() if node["class_type"] == "KSampler")
    sampler["inputs"]["seed"] += 1
    server.run(workflow)
    text = server.client.get("/ipex/report").decode()
    assert "cannot be read" not in text
    found = server.client.get_json("/api/ipex/report", format="json")
    assert [device["name"] for device in found["devices"]] == ["xpu:0", "xpu:1", "cpu"]
    assert found["arguments"]["force_fp32"] == "True"
    untold = {"base_directory", "database_url", "extra_model_paths_config", "port"}
    assert not untold & found["arguments"].keys()
    assert {model["device"] for model in found["loaded"]} >= {"xpu:1"}
    second = found["devices"][1]["memory"]
    assert second["reading"]["active"] > 0
    assert second["reading"]["driver_free"] is not None
    states = {row["seam"]: row["state"] for row in found["seams"]}
    assert states["free-memory"] == "installed"
    assert set(states.values()) <= {"installed", "not needed"}


@pytest.mark.parametrize("device", DEVICES)
def test_the_report_names_no_person_no_machine_and_no_folder(
    pool: ServerPool, host_version: str, device: str
) -> None:
    server = server_on(pool, host_version, device)
    # What a home folder and a machine are called here may be part of any word ("root").
    private = [str(Path.home()) + "/", str(server.host.tree.path), f"/{getpass.getuser()}/"]
    private += [platform.node()] if len(platform.node()) > 4 else []
    for text in (
        server.client.get("/ipex/report").decode(),
        server.client.get("/ipex/report", format="json").decode(),
    ):
        assert [word for word in private if word in text] == []
    document = server.client.get_json("/ipex/report", format="json")
    assert report_contents.unexpected(document) == []


def stats(server: servers.ComfyServer) -> dict[str, Any]:
    """/system_stats, with figures that change from call to call left out."""
    found = server.client.get_json("/system_stats")
    found["system"].pop("ram_free")
    found["system"].pop("argv")
    return dict(found)


def test_system_stats_list_both_cards_in_the_hosts_own_format(
    pool: ServerPool, host_version: str
) -> None:
    arguments = ("--force-fp32",)
    bare = Configuration(host_version, arguments, extension=False, emulator=TWO_CARDS)
    before, after = stats(pool.get(bare)), stats(server_on(pool, host_version, "xpu:1"))
    first, second = after.pop("devices")
    alone = before.pop("devices")[0]
    assert json.dumps(after) == json.dumps(before)
    assert list(first) == list(second) == list(alone)
    assert {**first, "vram_free": 0, "torch_vram_free": 0, "torch_vram_total": 0} == {
        **alone,
        "vram_free": 0,
        "torch_vram_free": 0,
        "torch_vram_total": 0,
    }
    assert (second["type"], second["index"]) == ("xpu", 1)
    assert second["name"] == first["name"].replace("xpu:0", "xpu:1")
    assert second["vram_total"] == first["vram_total"]
