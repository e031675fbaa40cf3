"""Batches with the real launcher and real hosts: interrupted and resumed, and on a cluster."""

import csv
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import batches
import hosts
import numpy as np
import processes
import pytest
import servers
from batches import Started
from comfyui_ipex.launcher.server import free_port
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("batch")]

JOBS = 8


STEPS = 4

LONG, LONG_STEPS = 4, 60
"""How many of the first jobs take long: each host of a cluster gets some, come as it may, and an
interrupt finds some left."""


def table(path: Path, count: int, long: int = 0) -> list[str]:
    """A table whose jobs differ in seed and text; returns their names."""
    names = [f"fox {number}" for number in range(1, count + 1)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "KSampler.seed", "3.text", "6.steps"])
        for number, name in enumerate(names):
            steps = LONG_STEPS if number < long else STEPS
            writer.writerow([name, 7 + number, f"a {name}, in snow", steps])
    return names


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home for the launcher and a workflow."""
    hosts.installed(hosts.REFERENCE)
    folder = tmp_path_factory.mktemp("batch")
    (folder / "workflow.json").write_text(json.dumps(servers.workflow("txt2img")))
    return folder


def arguments(place: Path, output: Path, jobs: Path, *more: str) -> list[str]:
    """Arguments of `./comfyui-ipex batch`."""
    return [str(place / "workflow.json"), "--table", str(jobs), "--output", str(output), *more]


def test_an_interrupted_batch_resumes_with_what_is_missing(place: Path) -> None:
    # Long ones: short ones were all done before the interrupt had gone through two programs.
    names = table(place / "jobs.csv", JOBS, LONG)
    output = place / "pictures"
    more = batches.host_arguments(place)
    command = arguments(place, output, place / "jobs.csv", "--devices", "cpu", *more)
    first = batches.start("batch", command, place / "home", place / "first.log")
    batches.wait_for(lambda: len(batches.done(output)) >= 2, first.log)
    first.process.send_signal(signal.SIGINT)
    assert first.wait() == 130, first.said
    assert "the same command does the rest" in first.said
    before = {name: (output / name).stat().st_mtime_ns for name in batches.results(output)}
    assert 2 <= len(before) < JOBS
    second = batches.start("batch", command, place / "home", place / "second.log")
    assert second.wait() == 0, second.said
    assert f"of which {JOBS - len(before)} are to be done" in second.said
    assert batches.results(output) == {f"{name}.png" for name in names}
    assert batches.done(output) == dict.fromkeys(names, 1)
    for name, time in before.items():
        assert (output / name).stat().st_mtime_ns == time
    assert batches.hosts_left(place / "home") == []
    for number, name in enumerate(names):
        with Image.open(output / f"{name}.png") as picture:
            prompt = json.loads(picture.info["prompt"])
        assert prompt["6"]["inputs"]["seed"] == 7 + number
        assert prompt["3"]["inputs"]["text"] == f"a {name}, in snow"


def test_frames_are_enlarged_on_all_hosts_and_joined_in_order(place: Path) -> None:
    shades = [20 * number for number in range(1, 11)]
    frames = [Image.new("RGB", (48, 32), (shade, shade, shade)) for shade in shades]
    moving = place / "moving.webp"
    frames[0].save(moving, append_images=frames[1:], save_all=True, lossless=True, duration=40)
    small = {"class_type": "ImageScaleBy", "inputs": {"image": ["1", 0], "scale_by": 2.0}}
    small["inputs"]["upscale_method"] = "bicubic"
    workflow = servers.workflow("upscale_ipex")
    kept = {"1": workflow["1"], "3": small, "4": workflow["4"]}
    (place / "enlarge.json").write_text(json.dumps(kept))
    given = [str(place / "enlarge.json"), "--frames", str(moving), "--output", str(place / "large")]
    given += ["--video", str(place / "large.mp4"), "--devices", "cpu,cpu"]
    given += batches.host_arguments(place)
    batch = batches.start("batch", given, place / "home", place / "frames.log")
    assert batch.wait() == 0, batch.said
    for number, shade in enumerate(shades, 1):
        with Image.open(place / "large" / f"{number:06}.png") as picture:
            assert picture.size == (96, 64)
            assert np.abs(np.asarray(picture).astype(int) - shade).max() <= 1
    with av.open(str(place / "large.mp4")) as video:
        assert video.streams.video[0].average_rate == 25
        seen = [frame.to_ndarray(format="gray").mean() for frame in video.decode(video=0)]
    assert np.allclose(seen, shades, atol=20 / 2)
    assert (np.diff(seen) > 0).all()
    again = batches.start("batch", given, place / "home", place / "again.log")
    assert again.wait() == 0, again.said
    assert "of which 0 are to be done" in again.said


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[tuple[str, Path, Started, Started]]:
    """Address, token, and two nodes: a head with a host on the CPU, one with an emulated XPU."""
    address, token = f"127.0.0.1:{free_port()}", place / "token"
    host = batches.host_arguments(place)
    given = ["--head", "--listen", address, "--token-file", str(token), "--devices", "cpu", *host]
    head = batches.start("node", given, place / "home", place / "head.log")
    try:
        head.until("Ready.")
        second = batches.second_node(address, token, host, place / "home", place / "second.log")
        yield address, token, head, second
        batches.kill_node(second)
    finally:
        head.process.send_signal(signal.SIGTERM)
        head.wait()


def test_a_node_that_is_killed_costs_no_job_and_doubles_none(
    place: Path, cluster: tuple[str, Path, Started, Started]
) -> None:
    address, token, head, second = cluster
    names = table(place / "many.csv", 2 * JOBS, LONG)
    output = place / "of-a-cluster"
    given = arguments(place, output, place / "many.csv", "--address", address)
    given += ["--token-file", str(token)]
    batch = batches.start("batch", given, place / "home", place / "cluster.log")

    def of_second() -> list[dict[str, Any]]:
        return [row for row in batches.rows(output) if row["host"].startswith("xpu:0@second/")]

    batches.wait_for(lambda: of_second() or batch.process.poll() is not None, batch.log)
    assert batch.process.poll() is None, batch.said
    started = processes.of_folder(str(place / "home"))
    assert {head.process.pid, second.process.pid, batch.process.pid} < set(started)
    assert len([line for line in started.values() if "main.py --port" in line]) >= 2
    assert processes.listening_elsewhere(list(started)) == []
    batches.kill_node(second)
    assert batch.wait() == 0, batch.said
    assert batches.results(output) == {f"{name}.png" for name in names}
    assert batches.done(output) == dict.fromkeys(names, 1)
    assert len(of_second()) < 2 * JOBS
    assert "and is tried again: its machine or process ended" in batch.said
    assert batches.hosts_left(place / "home") == []


def test_a_batch_without_the_token_is_refused(
    place: Path, cluster: tuple[str, Path, Started, Started]
) -> None:
    other = place / "other-token"
    other.write_text("0" * 64)
    os.chmod(other, 0o600)
    given = arguments(place, place / "refused", place / "many.csv", "--address", cluster[0])
    batch = batches.start(
        "batch", [*given, "--token-file", str(other)], place / "home", place / "refused.log"
    )
    assert batch.wait() == 2, batch.said
    assert f"The cluster at {cluster[0]} cannot be used" in batch.said
    assert batches.results(place / "refused") == set()
