"""Real servers on the CPU, with a worker whose process has an emulated XPU."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
import numpy as np
import processes
import pytest
import servers
from comfyui_ipex.launcher.client import WorkflowError
from comfyui_ipex.xpu_runtime.workers.channel import PREFIX
from servers import ComfyServer
from worker_scenes import (
    WORKER,
    difference,
    doubled,
    enlarging,
    pipelined,
    placed,
    queued_until_progress,
    report,
    several,
    text_lora,
    with_a_worker,
    with_text_lora,
)

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

ENTRY = re.compile(r"xpu:0 Intel Arc A770 16 GB #[0-9a-f]{6} @worker")

END_SECONDS = 30.0


@pytest.fixture(scope="module")
def server(host_version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One server for this module: a worker takes seconds to start."""
    folder = tmp_path_factory.mktemp("workers") / host_version
    started = ComfyServer(with_a_worker(host_version), folder, "")
    started.client.upload_image("photo.png", models.photo())
    yield started
    started.close()


@pytest.fixture(scope="module")
def expected(server: ComfyServer) -> servers.Run:
    """What one process makes of the workflow."""
    return server.run(placed())


def test_a_picture_made_with_a_worker_is_that_of_one_process(
    server: ComfyServer, expected: servers.Run
) -> None:
    clip, vae, controlnet, upscaler = "5", "6", "8", "10"
    run = server.run(placed(clip, vae, controlnet, upscaler))
    assert {clip, vae, controlnet, upscaler} <= set(run.executed)
    assert difference(run, expected) <= 1
    loaded = report(server)["told"]["loaded"]
    networks = {row["name"] for row in loaded if row["device"] == "xpu:0"}
    assert {"SD1ClipModel", "TAESD", "ControlNet", "RRDBNet"} <= networks


def test_weights_may_wait_on_the_workers_cpu_or_nowhere_else(
    server: ComfyServer, expected: servers.Run
) -> None:
    workflow = placed("5", "6", "10")
    for node in ("5", "6", "10"):
        workflow[node]["inputs"]["offload_device"] = "cpu"
    assert difference(server.run(workflow), expected) <= 1


def test_every_select_device_lists_the_workers_devices(server: ComfyServer) -> None:
    nodes = ("", "CLIP", "VAE", "ControlNet", "Upscaler")
    for name in (f"IpexSelectDevice{node}" for node in nodes):
        described = server.client.get_json(f"/object_info/{name}")[name]
        for names in (
            described["input"]["required"]["device"][0],
            described["input"]["optional"]["offload_device"][0],
        ):
            assert len([entry for entry in names if ENTRY.fullmatch(entry)]) == 1


def test_an_entry_of_the_menu_means_the_workers_card(
    server: ComfyServer, expected: servers.Run
) -> None:
    described = server.client.get_json("/object_info/IpexSelectDeviceVAE")["IpexSelectDeviceVAE"]
    workflow = placed()
    workflow["6"]["inputs"]["device"] = described["input"]["required"]["device"][0][-1]
    run = server.run(workflow)
    assert "6" in run.executed
    assert difference(run, expected) <= 1
    assert "which this machine does not have" not in server.log


def test_a_worker_that_is_absent_means_auto_with_a_warning(
    server: ComfyServer, expected: servers.Run
) -> None:
    workflow = placed()
    workflow["6"]["inputs"]["device"] = "xpu:0 Intel Arc B580 12 GB @attic"
    assert difference(server.run(workflow), expected) == 0
    assert "the VAE is set to 'xpu:0 Intel Arc B580 12 GB @attic'" in server.log


def test_a_worker_that_cannot_start_is_an_error_in_the_log_that_says_why(
    server: ComfyServer,
) -> None:
    assert "The worker 'nowhere' cannot be started: '/nowhere/python' is no Python" in server.log
    failed = re.search(r"The worker 'cardless' could not be started: (.*)", server.log)
    assert failed is not None
    assert "COMFYUI_IPEX_DEVICE=xpu" in failed[1] or "'xpu' was asked for" in failed[1]


def test_a_diffusion_model_is_refused_by_name(server: ComfyServer) -> None:
    with pytest.raises(WorkflowError, match="A diffusion model cannot be placed on xpu:0@worker"):
        server.run(placed("4"))


def test_a_lora_and_a_layer_work_on_a_placed_text_encoder(
    server: ComfyServer, expected: servers.Run
) -> None:
    assert server.server.command.base is not None
    text_lora(server.server.command.base / "models" / "loras")
    here = server.run(with_text_lora(placed()))
    assert difference(here, expected) > 8
    assert difference(server.run(with_text_lora(placed("5"))), here) <= 1
    assert difference(server.run(placed("5")), expected) <= 1


def test_comfyuis_own_nodes_take_the_proxies(server: ComfyServer) -> None:
    def workflow(device: str) -> dict[str, Any]:
        made = servers.workflow("placed")
        for node in ("6", "10"):
            made[node]["inputs"]["device"] = device
        upscale = {"upscale_model": ["10", 0], "image": ["17", 0]}
        tiles = {"tile_size": 128, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
        encode = {"pixels": ["13", 0], "vae": ["6", 0], **tiles}
        decode = {"samples": ["40", 0], "vae": ["6", 0], **tiles}
        kept = {key: made[key] for key in ("1", "6", "9", "10", "13")}
        return kept | {
            "40": {"class_type": "VAEEncodeTiled", "inputs": encode},
            "17": {"class_type": "VAEDecodeTiled", "inputs": decode},
            "18": {"class_type": "ImageUpscaleWithModel", "inputs": upscale},
            "19": {**made["19"], "inputs": {**made["19"]["inputs"], "images": ["18", 0]}},
        }

    assert difference(server.run(workflow(WORKER)), server.run(workflow("auto"))) <= 1


def test_preprocessors_run_on_a_worker(server: ComfyServer) -> None:
    here = server.run(servers.workflow("preprocess"))
    there = server.run(servers.workflow("preprocess", WORKER))
    assert len(there.images) == len(here.images)
    for ours, theirs in zip(here.images, there.images, strict=True):
        # On the CPU OpenCV computes some of them; tests of workflows allow the same.
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


def test_what_is_on_a_worker_is_not_optimised_and_the_node_says_so(
    server: ComfyServer, expected: servers.Run
) -> None:
    workflow = placed("10")
    wishes = {"backend": "auto", "channels_last": "on", "compile": "off"}
    given = {"upscale_model": ["10", 0], **wishes, "fold": True, "verify": True}
    workflow["50"] = {"class_type": "IpexOptimizeUpscaler", "inputs": given}
    workflow["18"]["inputs"]["upscale_model"] = ["50", 0]
    ran = server.run(workflow)
    assert difference(ran, expected) <= 1
    assert "runs on a worker" in ran.said("50")


@pytest.fixture(scope="module")
def three(server: ComfyServer) -> servers.Run:
    """What KSampler, VAE Decode and Upscale Image make of a batch, in one process."""
    run = server.run(several())
    first, second, third = (image.astype(int) for image in run.images)
    assert min(np.abs(first - second).max(), np.abs(first - third).max()) > 8
    return run


@pytest.mark.parametrize(
    ("nodes", "at_once", "said"),
    [
        ((), 1, "this process does one thing at a time"),
        (("6", "8", "10"), 1, "enlarged on the worker 'worker', while the next was sampled"),
        (("10",), 2, "Decoded in this process, enlarged on the worker 'worker', while the next"),
    ],
    ids=["here", "all", "upscaler, in twos"],
)
def test_a_pipeline_makes_the_pictures_of_the_nodes_it_stands_for_in_order(
    server: ComfyServer, three: servers.Run, nodes: tuple[str, ...], at_once: int, said: str
) -> None:
    run = server.run(pipelined(*nodes, at_once=at_once))
    assert len(run.images) == 3
    assert difference(run, three) <= 1
    assert said in run.said("40")


def test_a_pipeline_that_was_stopped_goes_on_from_there_also_after_its_worker_died(
    server: ComfyServer,
) -> None:
    workflow = doubled(pipelined("6", steps=8))
    # Half of six samplings and six finishings: at most two parts wait for the worker, so however
    # slow it is, some are finished, and not all are.
    prompt = queued_until_progress(server, workflow, 0.5)
    server.client.post("/interrupt", b"", "application/json")
    with pytest.raises(WorkflowError, match="error"):
        server.client.wait(prompt, servers.RUN_SECONDS)
    assert "Pipeline: stopped after" in server.log
    os.kill(report(server)["process"], signal.SIGKILL)
    run = server.run(workflow)
    kept = re.search("was stopped: ([1-6]) sampled, of them ([1-5]) finished", run.said("40"))
    assert kept, run.said("40")
    assert len(run.images) == 6
    assert difference(run, server.run(doubled(several(steps=8)))) <= 1


def test_the_report_tells_of_the_worker(server: ComfyServer) -> None:
    told = report(server)
    assert (told["name"], told["kind"]) == ("worker", "xpu")
    assert told["process"] != server.server.child.pid
    card = next(device for device in told["told"]["devices"] if device["name"] == "xpu:0")
    assert card["memory"]["reading"]["total"] > 1 << 33
    text = server.client.get("/ipex/report").decode()
    assert "Worker 'worker' for xpu\n" in text
    assert "xpu:0@worker: " in text


def test_progress_comes_back_and_an_interrupt_reaches_the_worker(server: ComfyServer) -> None:
    prompt = queued_until_progress(server, enlarging(1))
    server.client.post("/interrupt", b"", "application/json")
    with pytest.raises(WorkflowError, match="error"):
        server.client.wait(prompt, servers.RUN_SECONDS)
    record = server.client.history(prompt)
    assert record is not None
    kinds = [kind for kind, _ in record["status"]["messages"]]
    assert "execution_interrupted" in kinds
    server.run(enlarging(0))


def test_a_worker_that_is_killed_is_replaced_and_the_call_repeated(
    server: ComfyServer, expected: servers.Run
) -> None:
    before = report(server)["process"]
    prompt = queued_until_progress(server, enlarging(2))
    os.kill(before, signal.SIGKILL)
    server.client.wait(prompt, servers.RUN_SECONDS)
    assert "It is started again, and the call is repeated once" in server.log
    assert report(server)["process"] != before
    workflow = placed("5", "6", "8", "10")
    workflow["16"]["inputs"]["seed"] += 1
    here = placed()
    here["16"]["inputs"]["seed"] += 1
    assert difference(server.run(workflow), server.run(here)) <= 1


def test_nothing_listens_elsewhere_and_nothing_stays_when_the_host_is_killed(
    server: ComfyServer,
) -> None:
    worker = report(server)["process"]
    folder = Path(f"/proc/{worker}/cmdline").read_text().rstrip("\0").split("\0")[-1]
    started = processes.of_folder(folder)
    assert worker in started
    assert processes.listening_elsewhere(list(started)) == []
    assert Path(folder).stat().st_mode & 0o077 == 0
    server.kill()
    assert processes.gone(folder, END_SECONDS) == {}
    assert not Path(folder).exists()
    assert not [name for name in os.listdir("/dev/shm") if name.startswith(PREFIX)]
