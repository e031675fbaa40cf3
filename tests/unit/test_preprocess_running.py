"""Preprocessors over many pictures: chunks, interrupts, plans, poses."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from comfyui_ipex.inference.budget import Limits
from comfyui_ipex.inference.dry_run import Cost
from comfyui_ipex.inference.network import called_parts
from comfyui_ipex.inference.stream import Ui
from comfyui_ipex.nodes.preprocess.geometry import geometry
from comfyui_ipex.nodes.preprocess.method import Batch, Hint, Method
from comfyui_ipex.nodes.preprocess.picture_task import (
    PictureTask,
    WrongHintError,
    checking_layers,
    scale_pose,
)
from comfyui_ipex.nodes.preprocess.preprocessor import ChunkCosts, chunk_of
from streams import hinted
from torch import nn
from toy_preprocessor import CPU, Edges, call_of, one_by_one, pictures


@pytest.mark.parametrize("resolution", [0, 40, 100])
@pytest.mark.parametrize("match", [False, True])
def test_chunks_give_what_single_pictures_give(resolution: int, match: bool) -> None:
    images = pictures(5)
    wanted = one_by_one(images, resolution=resolution, match_input=match)
    network = Edges()
    call = call_of(network, CPU, (60, 60), resolution=resolution, match_input=match)
    with torch.inference_mode():
        found = hinted(PictureTask(call, 2, images)).pictures
    assert network.seen == [2, 2, 1]
    side = 60 if match or not resolution else resolution
    assert found.shape == (5, side, side, 3)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-6)
    assert found.std() > 0.005, "the hint is flat: every difference would hide"


def test_progress_is_told_and_an_interrupt_ends_the_run_between_chunks() -> None:
    told: list[tuple[int, int]] = []

    class StopError(Exception):
        pass

    def stop() -> None:
        if len(told) == 2:
            raise StopError

    network = Edges()
    ui = Ui(lambda done, total: told.append((done // 3600, total // 3600)), stop)
    with torch.inference_mode(), pytest.raises(StopError):
        hinted(PictureTask(call_of(network, CPU, (60, 60)), 2, pictures(8)), ui)
    assert told == [(2, 8), (4, 8)]
    assert network.seen == [2, 2]


def test_on_a_cpu_an_interrupt_ends_a_picture_before_the_next_layer() -> None:
    class StopError(Exception):
        pass

    asked: list[int] = []

    def stop() -> None:
        asked.append(len(network.seen))
        if len(asked) == 4:
            raise StopError

    network = Edges()
    call = call_of(network, CPU, (60, 60))
    with torch.inference_mode(), checking_layers(call, stop), pytest.raises(StopError):
        hinted(PictureTask(call, 1, pictures(2)), Ui(check_interrupted=stop))
    assert asked == [0, 1, 1, 1], "before the picture, and before each of its three layers"
    assert not any(part._forward_pre_hooks for part in network.modules())


def test_a_compiled_network_is_not_asked_inside() -> None:
    asked: list[None] = []
    network = Edges()
    network._compiled_call_impl = network._call_impl
    call = call_of(network, CPU, (60, 60))
    with torch.inference_mode(), checking_layers(call, lambda: asked.append(None)):
        hinted(PictureTask(call, 1, pictures(2)))
    assert not asked


def test_a_hint_of_another_size_is_an_error_that_names_the_method() -> None:
    def halved(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
        return Hint(batch.images[..., ::2, ::2])

    method = Method("Half", "Halves", "lines", "For tests.", halved)
    call = call_of(Edges(), CPU, (60, 60), method=method)
    with pytest.raises(WrongHintError, match="Halves made"):
        hinted(PictureTask(call, 1, pictures(1)))


def test_poses_are_in_pixels_of_the_result_without_the_padding() -> None:
    sizes = geometry(100, 50, 100, 64, match_input=False)
    assert (sizes.computed, sizes.padded) == ((200, 100), (256, 128))
    body = [0.5, 0.5, 1.0, 0.25, 0.125, 1.0]
    person = {"pose_keypoints_2d": body, "face_keypoints_2d": None}
    found = scale_pose({"people": [person]}, sizes)
    assert found == {
        "people": [
            {
                "pose_keypoints_2d": [64.0, 128.0, 1.0, 32.0, 32.0, 1.0],
                "face_keypoints_2d": None,
            }
        ],
        "canvas_height": 200,
        "canvas_width": 100,
    }
    animal = scale_pose({"animals": [[[0.5, 0.5, 1.0]]]}, sizes)
    assert animal["animals"] == [[[64.0, 128.0, 1.0]]]


def test_chunks_are_as_large_as_fits_and_evenly_shared_out() -> None:
    sizes = geometry(64, 64, 0)
    costs = ChunkCosts(Cost(110, 10), Cost(210, 20))
    assert chunk_of(16, costs, Limits(10**9, None), sizes) == 16
    assert chunk_of(16, costs, Limits(10**9, 150), sizes) == 8, "15 fit, but 8 and 8 are better"
    assert chunk_of(16, costs, Limits(1, None), sizes) == 1
    large = geometry(2048, 2048, 0)
    assert chunk_of(16, None, Limits(1 << 40, None), large) == 1
    half = geometry(512, 512, 0)
    assert chunk_of(16, None, Limits(1 << 40, None), half) == 16
    assert chunk_of(16, None, Limits(1 << 40, None, small=True), half) == 4, "on the CPU"
    assert chunk_of(0, None, Limits(1 << 40, None), large) == 1


def test_where_nothing_could_be_predicted_the_first_picture_is_measured() -> None:
    network = Edges()
    call = call_of(network, CPU, (60, 60))
    task = PictureTask(call, 1, pictures(8), measure=lambda frames: 3 * frames)
    with torch.inference_mode():
        hinted(task)
    assert network.seen == [1, 3, 3, 1]


def test_parts_of_a_network_that_is_only_a_container_are_what_is_called() -> None:
    inner = nn.ModuleDict({"body": Edges(), "hands": nn.ModuleList([Edges(), Edges()])})
    assert called_parts(inner) == [inner["body"], *inner["hands"]]
    assert called_parts(inner["body"]) == [inner["body"]]
