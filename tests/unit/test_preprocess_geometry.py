"""Sizes of pictures on their way through a preprocessor, and OpenCV's way to resize them."""

import cv2
import networks
import pytest
import torch
from comfyui_ipex.nodes.preprocess.geometry import (
    finished,
    geometry,
    prepared,
    resized,
    rgb,
    shares,
)


@pytest.mark.parametrize(
    ("size", "resolution", "multiple_of", "match", "computed", "padded", "result"),
    [
        ((480, 640), 512, 1, False, (512, 683), (512, 683), (512, 683)),
        ((640, 480), 512, 64, False, (683, 512), (704, 512), (683, 512)),
        ((720, 1280), 512, 64, True, (512, 910), (512, 960), (720, 1280)),
        ((300, 200), 0, 1, False, (300, 200), (300, 200), (300, 200)),
        ((300, 200), 0, 32, False, (300, 200), (320, 224), (300, 200)),
        ((1, 4000), 512, 64, False, (512, 2048000), (512, 2048000), (512, 2048000)),
        ((4000, 1), 1, 8, True, (4000, 1), (4000, 8), (4000, 1)),
    ],
)
def test_the_short_side_has_the_resolution_and_the_aspect_ratio_is_kept(
    size: tuple[int, int],
    resolution: int,
    multiple_of: int,
    match: bool,
    computed: tuple[int, int],
    padded: tuple[int, int],
    result: tuple[int, int],
) -> None:
    found = geometry(*size, resolution, multiple_of, match)
    assert (found.given, found.computed, found.padded) == (size, computed, padded)
    assert found.result == result


@pytest.mark.parametrize("size", [(128, 160), (96, 119), (100, 77), (13, 16)], ids=str)
def test_shrinking_is_opencvs_area(size: tuple[int, int]) -> None:
    image = networks.photo(256, 320).movedim(-1, 1)
    wanted = cv2.resize(image[0].movedim(0, -1).numpy(), size[::-1], interpolation=cv2.INTER_AREA)
    found = resized(image, size)[0].movedim(0, -1)
    assert (found - torch.from_numpy(wanted)).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(200, 240), (161, 187), (100, 900)], ids=str)
def test_enlarging_is_opencvs_cubic(size: tuple[int, int]) -> None:
    image = networks.photo(100, 120).movedim(-1, 1)
    frame = image[0].movedim(0, -1).numpy()
    wanted = torch.from_numpy(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_CUBIC))
    found = resized(image, size)[0].movedim(0, -1)
    assert (found - wanted.clamp(0, 1)).abs().max() < 1e-4


def test_shares_cover_every_pixel_once() -> None:
    for length, wanted in ((7, 3), (512, 300), (1000, 999), (10, 1), (4096, 513)):
        indices, weights = shares(length, wanted)
        total = torch.zeros(length).index_add_(0, indices.flatten(), weights.flatten())
        assert torch.allclose(total, torch.full((length,), wanted / length), atol=1e-5)


def test_padding_repeats_the_border_and_is_cut_off_again() -> None:
    images = networks.photo(50, 70).movedim(-1, 1)
    sizes = geometry(50, 70, 0, 32)
    seen = prepared(images, sizes)
    assert seen.shape == (1, 3, 64, 96)
    assert torch.equal(seen[..., 50:, :70], images[..., -1:, :].expand(-1, -1, 14, -1))
    assert torch.equal(finished(seen, sizes), images)
    unchanged = geometry(50, 70, 0)
    assert prepared(images, unchanged) is images


def test_gray_is_three_colours_and_what_is_transparent_is_white() -> None:
    gray = torch.rand(2, 1, 4, 5)
    assert torch.equal(rgb(gray), gray.expand(2, 3, 4, 5))
    rgba = torch.rand(1, 4, 4, 5)
    rgba[:, 3, 0] = 0
    rgba[:, 3, 1] = 1
    found = rgb(rgba)
    assert (found[:, :, 0] == 1).all()
    assert torch.equal(found[:, :, 1], rgba[:, :3, 1])
