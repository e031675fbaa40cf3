"""DWPose with small TorchScript programs whose answers are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from annotators import batch, defaults, save
from comfyui_ipex.inference.weight_files import WeightFileError
from comfyui_ipex.nodes.preprocess.networks import dwpose
from pose_programs import HEIGHT, WIDTH, paths
from torch import Tensor
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


def frame(*dots: tuple[int, int]) -> Tensor:
    """A gray picture [1, 3, 240, 320] with white dots of 4 pixels."""
    image = torch.full((1, 3, HEIGHT, WIDTH), 0.5)
    for x, y in dots:
        image[:, :, y - 2 : y + 2, x - 2 : x + 2] = 1
    return image


CENTRES = ((90.0, 110.0), (230.0, 130.0))
DOTS = ((100, 95), (215, 150))


def test_points_come_back_where_they_are_in_the_picture(tmp_path: Path) -> None:
    network = dwpose.load(paths(tmp_path, *CENTRES))
    hint = dwpose.find_poses(network, batch(frame(*DOTS)), defaults(dwpose.METHODS[0]))
    people = hint.poses[0]["people"]
    assert len(people) == 2
    for person, dot in zip(people, DOTS, strict=True):
        assert person["hand_left_keypoints_2d"] is None
        for name, count in (
            ("pose_keypoints_2d", 18),
            ("face_keypoints_2d", 70),
            ("hand_right_keypoints_2d", 21),
        ):
            points = torch.tensor(person[name]).view(-1, 3)
            assert len(points) == count
            assert (points[:, 2] == 1).all()
            assert (points[:, 0] * WIDTH - dot[0]).abs().max() < 3
            assert (points[:, 1] * HEIGHT - dot[1]).abs().max() < 3
    assert hint.pictures.shape == (1, 3, HEIGHT, WIDTH)
    assert hint.pictures[0, :, DOTS[0][1], DOTS[0][0]].max() > 0


def test_boxes_are_the_detectors_each_person_once_and_no_dogs(tmp_path: Path) -> None:
    network = dwpose.load(paths(tmp_path, *CENTRES))
    (boxes,) = dwpose.people(network, frame())
    centres = torch.from_numpy(boxes).view(-1, 2, 2).mean(1)
    assert torch.allclose(centres, torch.tensor(CENTRES), atol=1e-3)
    assert torch.allclose(torch.from_numpy(boxes[:, 2:] - boxes[:, :2]), torch.tensor([80.0, 160]))


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1)])
def test_a_row_of_pixels_is_looked_at_too(tmp_path: Path, size: tuple[int, int]) -> None:
    network = dwpose.load(paths(tmp_path, *CENTRES))
    hint = dwpose.find_poses(network, batch(torch.zeros(1, 3, *size)), defaults(dwpose.METHODS[0]))
    assert hint.pictures.shape == (1, 3, *size)


def test_frames_without_people_are_black_and_the_others_keep_theirs(tmp_path: Path) -> None:
    network = dwpose.load(paths(tmp_path, CENTRES[0]))
    frames = torch.cat((frame(DOTS[0]), torch.zeros(1, 3, HEIGHT, WIDTH), frame((80, 120))))
    hint = dwpose.find_poses(network, batch(frames), defaults(dwpose.METHODS[0]))
    assert [len(pose["people"]) for pose in hint.poses] == [1, 0, 1]
    assert hint.pictures[1].max() == 0
    noses = [hint.poses[index]["people"][0]["pose_keypoints_2d"][0] for index in (0, 2)]
    assert noses == pytest.approx([100 / WIDTH, 80 / WIDTH], abs=0.01)


def test_more_people_than_the_program_takes_at_once(tmp_path: Path) -> None:
    network = dwpose.load(paths(tmp_path, *CENTRES))
    frames = torch.cat([frame(*DOTS)] * 4)
    hint = dwpose.find_poses(network, batch(frames), defaults(dwpose.METHODS[0]))
    assert [len(pose["people"]) for pose in hint.poses] == [2] * 4
    assert all(pose == hint.poses[0] for pose in hint.poses)


def test_switched_off_parts_are_in_neither_result(tmp_path: Path) -> None:
    network = dwpose.load(paths(tmp_path, CENTRES[0]))
    options = dict.fromkeys(("detect_hand", "detect_body", "detect_face"), "disable")
    options = {**defaults(dwpose.METHODS[0]), **options}
    hint = dwpose.find_poses(network, batch(frame(DOTS[0])), options)
    (person,) = hint.poses[0]["people"]
    assert person["face_keypoints_2d"] is person["hand_right_keypoints_2d"] is None
    assert not any(person["pose_keypoints_2d"])
    assert hint.pictures.max() == 0


def test_without_a_detector_the_whole_picture_is_one_person(tmp_path: Path) -> None:
    found = paths(tmp_path, *CENTRES)
    del found[dwpose.DETECTOR.name]
    (method,) = dwpose.METHODS
    options = {**defaults(method), "bbox_detector": "None"}
    row = method.network(options)
    assert row is not None
    assert [file.name for file in row.files] == [dwpose.ESTIMATOR.name]
    frames = torch.cat((frame((300, 20)), torch.zeros(1, 3, HEIGHT, WIDTH), frame((20, 200))))
    hint = dwpose.find_poses(row.load(found), batch(frames), options)
    assert [len(pose["people"]) for pose in hint.poses] == [1, 1, 1]
    for index, (x, y) in ((0, (300, 20)), (2, (20, 200))):
        points = torch.tensor(hint.poses[index]["people"][0]["hand_right_keypoints_2d"]).view(-1, 3)
        assert (points[:, 0] * WIDTH - x).abs().max() < 3
        assert (points[:, 1] * HEIGHT - y).abs().max() < 3


def test_people_on_a_card_are_the_cpus_and_no_picture_leaves_it(
    tmp_path: Path, emulated_xpu: Callable[..., EmulatedXpu]
) -> None:
    network = dwpose.load(paths(tmp_path, *CENTRES))
    options = defaults(dwpose.METHODS[0])
    images = torch.cat((frame(*DOTS), frame(DOTS[0], (240, 120))))
    expected = dwpose.find_poses(network, batch(images), options)
    emulated = emulated_xpu([DeviceSpec(A770)])
    network = dwpose.load(paths(tmp_path, *CENTRES)).to("xpu:0")
    there = images.to("xpu:0")
    emulated.reset_counters()
    made = dwpose.find_poses(network, batch(there), options)
    counted = emulated.devices[0].counters()
    assert counted["kernels"]
    assert counted["d2h"]["bytes"] < 1 << 14, "boxes and points alone"
    assert [len(pose["people"]) for pose in made.poses] == [2, 2]
    for mine, other in zip(made.poses, expected.poses, strict=True):
        for one, same in zip(mine["people"], other["people"], strict=True):
            for name, points in same.items():
                assert one[name] == (None if points is None else pytest.approx(points, abs=1e-5))
    assert torch.allclose(made.pictures.cpu(), expected.pictures, atol=1e-6)


def test_files_that_are_no_torchscript_are_refused(tmp_path: Path) -> None:
    found = {}
    for file in (dwpose.DETECTOR, dwpose.ESTIMATOR):
        found |= save({"weight": torch.zeros(1)}, tmp_path / file.name)
    with pytest.raises(WeightFileError, match="no whole TorchScript"):
        dwpose.load(found)
