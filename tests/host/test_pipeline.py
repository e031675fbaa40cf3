"""Pipeline on real servers on the CPU, with a worker whose process has an emulated XPU."""

from collections.abc import Iterator

import models
import numpy as np
import pytest
import servers
from servers import ComfyServer
from worker_scenes import pipelined, several, with_a_worker

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]


@pytest.fixture(scope="module")
def server(host_version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One server for this module: a worker takes seconds to start."""
    folder = tmp_path_factory.mktemp("pipeline") / host_version
    started = ComfyServer(with_a_worker(host_version), folder, "")
    started.client.upload_image("photo.png", models.photo())
    yield started
    started.close()


@pytest.fixture(scope="module")
def expected(server: ComfyServer) -> servers.Run:
    """What KSampler, VAE Decode and Upscale Image make of the batch in one process."""
    return server.run(several())


def differences(one: servers.Run, other: servers.Run) -> list[int]:
    """The largest of each picture, in steps of 8 bits."""
    assert len(one.images) == len(other.images) == 3
    pairs = zip(one.images, other.images, strict=True)
    return [int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs]


@pytest.mark.parametrize(
    ("nodes", "at_once", "said"),
    [
        ((), 1, "this process does one thing at a time"),
        (("6",), 1, "Decoded on the worker 'worker', enlarged in this process, while the next"),
        (("10",), 2, "Decoded in this process, enlarged on the worker 'worker', while the next"),
        (("6", "8", "10"), 1, "enlarged on the worker 'worker', while the next was sampled"),
        (("6", "10"), 3, "there is one part only"),
    ],
    ids=["here", "vae", "upscaler in twos", "all", "at once"],
)
def test_pictures_are_those_of_the_nodes_one_after_another_in_their_order(
    server: ComfyServer, expected: servers.Run, nodes: tuple[str, ...], at_once: int, said: str
) -> None:
    run = server.run(pipelined(*nodes, at_once=at_once))
    assert max(differences(run, expected)) <= 1
    # Each of the three differs from the others: order is seen.
    assert np.abs(expected.images[0].astype(int) - expected.images[1].astype(int)).max() > 8
    assert np.abs(expected.images[0].astype(int) - expected.images[2].astype(int)).max() > 8
    assert said in run.said("40")
