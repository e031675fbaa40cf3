"""Preprocessors without weights equal OpenCV, controlnet_aux and the best-known pack."""

from collections.abc import Callable
from typing import Any

import cv2
import networks
import numpy as np
import plain_references as references
import pytest
import torch
from comfyui_ipex.nodes.preprocess.blur import kernel, mirror
from comfyui_ipex.nodes.preprocess.catalogue import METHODS
from comfyui_ipex.nodes.preprocess.method import Batch
from comfyui_ipex.nodes.preprocess.plain import lines, opencv
from comfyui_ipex.nodes.preprocess.preprocessor import defaults
from torch import Tensor
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

# One level of 8 bits, which the references cut to, and what fp32 rounds.
LEVEL = 1.01 / 255

WHOLE_NUMBERS: list[tuple[str, Callable[..., Any], dict[str, Any]]] = [
    ("Canny", references.canny, {}),
    ("Canny", references.canny, {"low_threshold": 20, "high_threshold": 60}),
    ("Canny", references.canny, {"low_threshold": 200, "high_threshold": 50}),
    ("Canny", references.canny, {"low_threshold": 0, "high_threshold": 255}),
    ("Binary", references.binary, {}),
    ("Binary", references.binary, {"bin_threshold": 0}),
    ("Scribble", references.scribble, {}),
    ("ImageLuminance", references.recolored(cv2.COLOR_BGR2LAB, 0), {}),
    ("ImageIntensity", references.recolored(cv2.COLOR_BGR2HSV, 2), {}),
    ("Tile", references.tile, {"pyrUp_iters": 1}),
    ("Tile", references.tile, {}),
    ("Tile", references.tile, {"pyrUp_iters": 6}),
]
"""The reference computes in whole numbers: every bit is the same."""

NUMBERS: list[tuple[str, Callable[..., Any], dict[str, Any]]] = [
    ("Color", references.color, {}),
    ("ContentShuffle", references.shuffled, {"seed": 7}),
    ("ImageLuminance", references.recolored(cv2.COLOR_BGR2LAB, 0), {"gamma_correction": 0.5}),
    ("ImageIntensity", references.recolored(cv2.COLOR_BGR2HSV, 2), {"gamma_correction": 2.0}),
    ("StandardLineart", references.standard_lineart, {}),
    ("StandardLineart", references.standard_lineart, {"guassian_sigma": 2.5}),
]
"""Within one of 255, to which the reference cuts or rounds its result."""


def named(rows: list[Any]) -> list[str]:
    return [f"{name} {options}" for name, _, options in rows]


@pytest.fixture(params=["opencv", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With OpenCV on the CPU, and as devices and a CPU without it compute."""
    found = cv2 if request.param == "opencv" else None
    monkeypatch.setattr(opencv, "_module", lambda: found)
    return str(request.param)


def photo(height: int = 192, width: int = 256) -> Tensor:
    """fp32 [2, H, W, 3]: two photos in steps of 1/255."""
    both = torch.cat([networks.photo(height, width), networks.photo(height, width, 150, 30)])
    return (both * 255).round() / 255


def computed(name: str, images: Tensor, device: str = "cpu", **options: Any) -> Tensor:
    method = METHODS[name]
    batch = Batch(images.movedim(-1, 1).to(device))
    return method.make_hint(None, batch, defaults(method) | options).pictures


def expected(reference: Callable[..., Any], images: Tensor, **options: Any) -> Tensor:
    frames = (images * 255).round().to(torch.uint8).numpy()
    results = [np.atleast_3d(reference(frame, **options))[..., :3] for frame in frames]
    return torch.from_numpy(np.stack(results)).movedim(-1, 1).float() / 255


@pytest.mark.parametrize(("name", "reference", "options"), WHOLE_NUMBERS, ids=named(WHOLE_NUMBERS))
def test_what_the_reference_computes_in_whole_numbers_is_the_same_bit_for_bit(
    name: str, reference: Callable[..., Any], options: dict[str, Any], way: str
) -> None:
    images = photo()
    found = computed(name, images, **options)
    wanted = expected(reference, images, **defaults(METHODS[name]) | options)
    assert wanted.std() > 0.01, "the reference is flat: every difference would hide"
    assert torch.equal((found * 255).round(), (wanted * 255).round())


@pytest.mark.parametrize(("name", "reference", "options"), NUMBERS, ids=named(NUMBERS))
def test_what_the_reference_cuts_to_8_bits_is_within_one_of_255(
    name: str, reference: Callable[..., Any], options: dict[str, Any], way: str
) -> None:
    images = photo()
    found = computed(name, images, **options)
    wanted = expected(reference, images, **defaults(METHODS[name]) | options)
    assert wanted.std() > 0.01, "the reference is flat: every difference would hide"
    assert (found - wanted).abs().max() <= LEVEL


@pytest.mark.parametrize("threshold", [1, 32, 33, 64])
def test_xdog_differs_from_the_reference_only_where_fp32_rounds(threshold: int, way: str) -> None:
    images = photo()
    found = computed("ScribbleXDoG", images, threshold=threshold)
    wanted = expected(references.xdog, images, threshold=threshold)
    assert 0.001 < wanted.mean() < 0.999
    assert (found != wanted).float().mean() < 1e-4


def test_controlnet_aux_and_opencv_agree_on_canny(way: str) -> None:
    images = photo()
    detect = references.controlnet_aux().CannyDetector()
    sides = {"detect_resolution": 192, "image_resolution": 192}
    wanted = expected(lambda frame: detect(frame, 100, 200, output_type="np", **sides), images)
    assert torch.equal(computed("Canny", images).expand_as(wanted), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (41, 67)], ids=str)
def test_small_and_odd_pictures_are_no_special_case(shape: tuple[int, int], way: str) -> None:
    images = (torch.rand(1, *shape, 3, generator=torch.Generator().manual_seed(2)) * 255).round()
    images /= 255
    rows = [("Canny", references.canny), ("Binary", references.binary)]
    for name, reference in rows:
        found = computed(name, images)
        wanted = expected(reference, images, **defaults(METHODS[name]))
        assert torch.equal(found, wanted), name
    for name, method in METHODS.items():
        if not method.networks and not method.takes_mask:
            found = computed(name, images)
            assert found.shape[-2:] == shape, name
            assert found.isfinite().all(), name
            assert 0 <= found.min() <= found.max() <= 1, name


def test_what_lies_outside_0_to_1_counts_as_its_end(way: str) -> None:
    images = photo()
    beyond = images.where(images > 0.1, -images).where(images < 0.9, images + 0.3)
    inside = beyond.clamp(0, 1)
    for name in ("Canny", "Binary", "Scribble", "ImageIntensity", "Tile"):
        found, wanted = (computed(name, one) for one in (beyond, inside))
        assert torch.equal(found, wanted), name


def test_edges_are_followed_to_their_ends() -> None:
    """A faint spiral that is one edge over hundreds of pixels, and strong at one end only."""
    images = torch.zeros(1, 96, 96, 3)
    for ring in range(4, 44, 8):
        images[:, ring : 96 - ring, ring : 96 - ring] += 0.12
    images[:, 4:8, 4:8] = 1
    options = {"low_threshold": 60, "high_threshold": 400}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opencv, "_module", lambda: None)
        found = computed("Canny", images, **options)
    assert torch.equal(found, expected(references.canny, images, **options))


def test_otsu_is_opencvs() -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        shades = random.normal(random.uniform(40, 200), 30, (32, 32)).clip(0, 255).astype(np.uint8)
        counts = np.bincount(shades.ravel(), minlength=256).tolist()
        assert lines.otsu(counts) == cv2.threshold(shades, 0, 255, cv2.THRESH_OTSU)[0]


def test_blurs_have_opencvs_weights_and_borders() -> None:
    for sigma in (0.5, 1.3, 5.0, 6.0, 12.25):
        wanted = cv2.getGaussianKernel(round(sigma * 8 + 1) | 1, sigma)[:, 0]
        assert np.abs(np.array(kernel(sigma)) - wanted).max() < 1e-6
    for length in (1, 2, 5):
        for position in range(-12, 17):
            wanted = cv2.borderInterpolate(position, length, cv2.BORDER_REFLECT_101)
            assert mirror(position, length) == wanted


def test_the_same_seed_moves_all_frames_alike_and_another_one_differently() -> None:
    images = photo()
    same = torch.stack((images[0], images[0]))
    first = computed("ContentShuffle", same, seed=3)
    assert torch.equal(first[0], first[1])
    assert torch.equal(first, computed("ContentShuffle", same, seed=3))
    assert not torch.equal(first, computed("ContentShuffle", same, seed=4))


def test_what_is_masked_is_missing_or_black() -> None:
    images = photo()
    masks = torch.zeros(1, 1, 192, 256)
    masks[..., 20:50, 60:90] = 1
    batch = Batch(images.movedim(-1, 1), 0, masks)
    for black, value in ((False, -1.0), (True, 0.0)):
        found = (
            METHODS["Inpaint"].make_hint(None, batch, {"black_pixel_for_xinsir_cn": black}).pictures
        )
        assert (found[..., 20:50, 60:90] == value).all()
        kept = masks.expand_as(found) == 0
        assert torch.equal(found[kept], batch.images[kept])


PLAIN = [name for name, row in METHODS.items() if not row.networks and not row.takes_mask]


@pytest.mark.parametrize("name", PLAIN)
def test_a_card_without_fp64_gives_the_cpus_result_and_nothing_leaves_it(
    name: str, emulated_xpu: Callable[..., EmulatedXpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = photo(128, 128)
    options = {"bin_threshold": 0} if name == "Binary" else {}
    monkeypatch.setattr(opencv, "_module", lambda: None)
    wanted = computed(name, images, **options)
    assert not A770.has_fp64
    emulated = emulated_xpu([DeviceSpec(A770)])
    picture = images.to("xpu:0")
    emulated.reset_counters()
    found = computed(name, picture, "xpu:0", **options)
    assert found.device == picture.device
    small = 16 << 10
    assert emulated.devices[0].counters()["d2h"]["bytes"] < small, "a picture went to the CPU"
    assert (found.cpu() - wanted).abs().max() <= 1e-6
