"""OpenPose against controlnet_aux's detector: people who are known, hands, faces, drawings.

Random weights find nobody, so both get the same maps of people.
"""

import colorsys
import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import poses
import pytest
import torch
from annotators import as_bytes, batch, defaults, pictures, random_weights, save
from comfyui_ipex.inference.transfer import TooLargeError
from comfyui_ipex.nodes.preprocess.networks import openpose, resampling, skeletons
from comfyui_ipex.nodes.preprocess.networks.openpose import OpenPose
from comfyui_ipex.nodes.preprocess.networks.skeletons import Drawing, Person
from torch import nn

CROWDS = {
    "nobody": [],
    "one": [poses.person(6.13, 2.17, 10, 19)],
    "two": [poses.person(2.13, 1.17, 9, 20), poses.person(18.13, 4.17, 8, 16)],
    "hidden legs and an arm": [poses.person(6.13, 2.17, 10, 19, 3, 4, 9, 10, 12, 13)],
    "too little of one": [
        poses.person(6.13, 2.17, 10, 19, *range(3, 18)),
        poses.person(19.13, 2.17, 8, 18),
    ],
    "crossing": [poses.person(4.13, 2.17, 12, 19), poses.person(9.13, 2.17, 12, 19, 16)],
    "two parts that never meet": [poses.person(8.13, 2.17, 12, 20, 0, 1)],
}
# 184 pixels high for the network: 23 rows.
HEIGHT, WIDTH = 256, 320
CELLS = (23, 29)


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


def reference(crowd: list[poses.Joints]) -> Any:
    """The package's detector, whose networks answer with this crowd and with spots."""
    from controlnet_aux import OpenposeDetector
    from controlnet_aux.open_pose.body import Body
    from controlnet_aux.open_pose.face import Face
    from controlnet_aux.open_pose.hand import Hand

    body, hand, face = Body.__new__(Body), Hand.__new__(Hand), Face.__new__(Face)
    body.model = poses.Known([poses.maps(crowd, *CELLS)])
    hand.model, face.model = poses.Spots(22), poses.Spots(71, several=True)
    return OpenposeDetector(body, hand, face)


def ours(crowds: list[list[poses.Joints]]) -> nn.Module:
    """Our network with the same answers."""
    network = OpenPose.__new__(OpenPose)
    nn.Module.__init__(network)
    network.body = poses.Known([poses.maps(crowd, *CELLS) for crowd in crowds])
    network.hand, network.face = poses.Spots(22), poses.Spots(71, several=True)
    return network


def flat(points: Any) -> list[float]:
    """Points of the reference as POSE_KEYPOINT lists them."""
    return [n for p in points for n in ((p.x, p.y, 1.0) if p is not None else (0.0, 0.0, 0.0))]


def detected(detector: Any, image: np.ndarray) -> tuple[Any, np.ndarray]:
    """The people that the package's detector finds, and what it draws."""
    found: list[Any] = []
    detect = detector.detect_poses
    detector.detect_poses = lambda *given: found.append(detect(*given)) or found[0]
    drawn = detector(
        image,
        detect_resolution=HEIGHT,
        image_resolution=HEIGHT,
        include_hand=True,
        include_face=True,
        output_type="np",
    )
    return found[0], drawn


def persons(found: Any) -> list[Person]:
    """The package's people as ours."""

    def points(some: Any) -> Any:
        return some and tuple(point and (point.x, point.y) for point in some)

    return [
        Person(points(p.body.keypoints), points(p.left_hand), points(p.right_hand), points(p.face))
        for p in found
    ]


@pytest.fixture
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package takes one function for colours from matplotlib, which tests do without."""
    colours = SimpleNamespace(hsv_to_rgb=lambda hsv: np.array(colorsys.hsv_to_rgb(*hsv)))
    monkeypatch.setitem(sys.modules, "matplotlib", SimpleNamespace(colors=colours))


@pytest.mark.usefixtures("_colours")
@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS.keys())
def test_people_hands_and_faces_are_the_detectors(crowd: list[poses.Joints]) -> None:
    images = pictures(HEIGHT, WIDTH)
    theirs, drawn = detected(reference(crowd), as_bytes(images[0]))
    hint = openpose.find_poses(ours([crowd]), batch(images), defaults(openpose.METHODS[0]))
    people = hint.poses[0]["people"]
    assert len(people) == len(theirs)
    for mine, other in zip(people, theirs, strict=True):
        assert mine["pose_keypoints_2d"] == pytest.approx(flat(other.body.keypoints))
        for name, points in (
            ("hand_left_keypoints_2d", other.left_hand),
            ("hand_right_keypoints_2d", other.right_hand),
            ("face_keypoints_2d", other.face),
        ):
            assert (mine[name] is None) == (points is None)
            if points is not None:
                # The package rounds what it cuts out to bytes: a point may move by a pixel.
                expected = flat(points)
                assert mine[name] == pytest.approx(expected, abs=1.01 / HEIGHT)
                moved = np.abs(np.subtract(mine[name], expected)) > 1e-6
                assert moved.mean() < 0.05
    assert np.array_equal(skeletons.draw(persons(theirs), HEIGHT, WIDTH, Drawing()), drawn)
    assert np.abs(as_bytes(hint.pictures[0]).astype(int) - drawn).mean() < 1


def test_known_people_are_found_where_they_are() -> None:
    hint = openpose.find_poses(
        ours([CROWDS["two"]]), batch(pictures(HEIGHT, WIDTH)), defaults(openpose.METHODS[0])
    )
    people = hint.poses[0]["people"]
    assert len(people) == 2
    for joints in CROWDS["two"]:
        cells = torch.tensor([joints[n] for n in range(18)]) + 0.5
        expected = cells * 8 / torch.tensor([230.0, 184.0])
        found = [
            torch.tensor(one["pose_keypoints_2d"]).view(18, 3)[:, :2].sub(expected).abs().max()
            for one in people
        ]
        assert min(found) < 0.02


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((368, 460), (184, 230)),
        ((184, 1472), (184, 1472)),
        ((1, 48), (30, 1472)),
        ((9200, 1), (184, 1)),
    ],
)
def test_bodies_are_looked_for_at_a_size_that_ends(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert openpose.seen_size(*size) == expected


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1)])
def test_a_row_of_pixels_has_nobody(size: tuple[int, int]) -> None:
    network = openpose.OpenPose().eval()
    hint = openpose.find_poses(
        network, batch(torch.zeros(1, 3, *size)), defaults(openpose.METHODS[0])
    )
    assert hint.pictures.shape == (1, 3, *size)


def test_a_batch_of_frames_is_what_the_frames_are_alone() -> None:
    crowds = [CROWDS["one"], CROWDS["nobody"], CROWDS["two"]]
    images = pictures(HEIGHT, WIDTH, 3)
    options = defaults(openpose.METHODS[0])
    together = openpose.find_poses(ours(crowds), batch(images), options)
    for index, crowd in enumerate(crowds):
        alone = openpose.find_poses(ours([crowd]), batch(images[index][None]), options)
        assert together.poses[index] == alone.poses[0]
        assert torch.equal(together.pictures[index], alone.pictures[0])


def test_what_is_switched_off_is_not_looked_for() -> None:
    options = {"detect_hand": "disable", "detect_face": "disable"}
    options = {**defaults(openpose.METHODS[0]), **options}
    network = ours([CROWDS["one"]])
    del network.hand, network.face
    person = openpose.find_poses(network, batch(pictures(HEIGHT, WIDTH)), options).poses[0][
        "people"
    ][0]
    assert person["hand_left_keypoints_2d"] is person["face_keypoints_2d"] is None


def test_the_networks_are_the_packages_with_the_files_names(tmp_path: Any) -> None:
    from controlnet_aux.open_pose.body import Body
    from controlnet_aux.open_pose.face import Face
    from controlnet_aux.open_pose.hand import Hand

    with torch.device("meta"):
        network = OpenPose()
    paths: dict[str, Any] = {}
    for part, file in ((network.body, openpose.BODY), (network.hand, openpose.HAND)):
        names = {name.split(".", 1)[1]: value for name, value in part.state_dict().items()}
        paths |= save(random_weights(names), tmp_path / file.name)
    paths |= save(random_weights(network.face.state_dict()), tmp_path / openpose.FACE.name)
    network = openpose.load(paths)
    seen = pictures(64, 96).flip(1) * (255 / 256) - 0.5
    theirs = Body(str(paths[openpose.BODY.name])).model
    assert all(map(torch.equal, network(seen), theirs(seen)))
    theirs = Hand(str(paths[openpose.HAND.name])).model
    assert torch.equal(network(seen, "hand")[0], theirs(seen))
    theirs = Face(str(paths[openpose.FACE.name])).model
    assert torch.equal(network(seen, "face")[0], theirs(seen)[-1])


@pytest.mark.parametrize(("given", "wanted"), [((64, 96), (184, 276)), ((200, 300), (47, 71))])
def test_resizing_is_opencvs(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = pictures(*given)[0]
    how = cv2.INTER_AREA if given > wanted else cv2.INTER_LANCZOS4
    expected = cv2.resize(image.movedim(0, -1).numpy(), wanted[::-1], interpolation=how)
    result = resampling.apply(image, *resampling.resize(given, wanted)).movedim(0, -1)
    assert np.abs(result.numpy() - expected).max() < 1e-5


def test_blurs_are_opencvs_and_scipys() -> None:
    from scipy.ndimage import gaussian_filter

    image = pictures(40, 9)[0, 0]

    def blurred(blur: resampling.Blur, name: str) -> np.ndarray:
        rows, columns = (
            getattr(blur, name)(torch.eye(n, dtype=torch.float64)) for n in image.shape
        )
        return resampling.apply(image, rows, columns).numpy()

    opencvs = cv2.GaussianBlur(image.numpy(), (7, 7), 0.8)
    scipys = gaussian_filter(image.numpy(), sigma=3)
    for name in ("before", "after"):
        for blur, expected in (
            (resampling.Blur(0.8, 3, edge_twice=False), opencvs),
            (resampling.Blur(3.0, 12, edge_twice=True), scipys),
        ):
            assert np.abs(blurred(blur, name) - expected).max() < 1e-6


def test_a_blur_takes_no_more_memory_than_the_matrix_that_it_is_joined_with() -> None:
    """A matrix of a blur of its own would have 800 GB."""
    length = 1 << 18
    column = torch.rand(length, 1, dtype=torch.float64)
    blur = resampling.Blur(3.0, 12, edge_twice=True)
    assert torch.allclose(blur.after(column), blur.before(column.T).T)


def test_a_side_that_no_memory_holds_is_an_error_with_a_remedy() -> None:
    with pytest.raises(TooLargeError, match=r"side of 16777216 pixels take .* a smaller size"):
        resampling.resize((8, 1 << 24), (184, 1 << 20))
