"""Boosted LeReS against controlnet_aux's, with small networks in the place of both."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from annotators import as_bytes, defaults, pictures, random_weights, save, sharing
from comfyui_ipex.inference.weight_files import WeightFileError
from comfyui_ipex.nodes.preprocess.method import Batch
from comfyui_ipex.nodes.preprocess.networks import leres, leres_boost, leres_patches, resampling
from comfyui_ipex.nodes.preprocess.networks.leres_boost import Boosted
from torch import Tensor, nn
from torch.nn import functional
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

SIDE = 128
"""Of what the small merging network takes."""

PROFILE = 300
"""Of the mask of parts."""

SIZE = (512, 576)

METHOD = leres.METHODS[0]
OPTIONS = {**defaults(METHOD), "boost": "enable"}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Any:
    from controlnet_aux.leres.leres import depthmap

    monkeypatch.setattr(depthmap, "pix2pixsize", SIDE)
    monkeypatch.setattr(leres_boost, "MERGED", SIDE)
    # The mask of 3000 by 3000 pixels takes the package eight seconds.
    mask = depthmap.generatemask
    monkeypatch.setattr(depthmap, "generatemask", lambda _: mask((PROFILE, PROFILE)))
    monkeypatch.setattr(leres_boost, "_PROFILE", PROFILE)
    leres_boost._profile.cache_clear()
    with torch.inference_mode():
        yield
    leres_boost._profile.cache_clear()


def scene(count: int = 1) -> Tensor:
    """Photos on gray: [count, 3, 512, 576] with detail in one corner only, which is looked at."""
    canvas = torch.full((count, 3, *SIZE), 128 / 255)
    canvas[:, :, 200:440, 250:506] = pictures(240, 256, count)
    return canvas


class Depth(nn.Module):
    """Depths that depend on what is around, in both senses, and on the size that is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 1, 3, padding=1)
        self.load_state_dict(random_weights(self.state_dict()))

    def forward(self, seen: Tensor) -> Tensor:
        """[N, 1, H, W]."""
        small = functional.avg_pool2d(seen, 8) / 100
        found = self.last(torch.tanh(self.first(small)))
        return functional.interpolate(found, seen.shape[-2:], mode="bilinear")

    def depth_model(self, seen: Tensor) -> Tensor:
        """The package's name of the same."""
        return self(seen)


def small() -> Boosted:
    """Both networks; the merging one is the package's, with fewer halvings."""
    from controlnet_aux.leres.pix2pix.models.networks import UnetGenerator, get_norm_layer

    merge = UnetGenerator(2, 1, 7, 4, norm_layer=get_norm_layer("none"))
    merge.load_state_dict(random_weights(merge.state_dict(), seed=5))
    return Boosted(Depth(), merge).eval()


def theirs(network: Boosted) -> Any:
    """The package's detector with these networks."""
    from controlnet_aux import LeresDetector
    from controlnet_aux.leres.pix2pix.models.pix2pix4depth_model import Pix2Pix4DepthModel

    merger = Pix2Pix4DepthModel.__new__(Pix2Pix4DepthModel)
    merger.device, merger.visual_names = torch.device("cpu"), ["fake_B"]
    merger.netG = network.merge
    return LeresDetector(network.depth, merger)


def plans(monkeypatch: pytest.MonkeyPatch) -> list[leres_patches.PatchPlan]:
    """Every plan that is made from now on."""
    made: list[leres_patches.PatchPlan] = []
    plan = leres_patches.plan
    monkeypatch.setattr(leres_boost, "plan", lambda gray: made.append(plan(gray)) or made[-1])
    return made


def few_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three for each picture, for what does not depend on their number."""
    plan = leres_patches.plan

    def fewer(gray: np.ndarray) -> leres_patches.PatchPlan:
        made = plan(gray)
        return replace(made, squares=made.squares[-3:])

    monkeypatch.setattr(leres_boost, "plan", fewer)


@pytest.mark.parametrize("parts", [True, False], ids=["parts", "whole"])
def test_depths_are_the_packages(parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In floating point: what the detector cuts to 8 bits on its way is another test."""
    from controlnet_aux.leres.leres.depthmap import estimateboost

    network, picture = small(), scene() if parts else pictures(320, 192)
    made, size = plans(monkeypatch), tuple(picture.shape[-2:])
    detector = theirs(network)
    image = (picture[0].movedim(0, -1) * 255).numpy()
    expected = estimateboost(image, detector.model, 0, detector.pix2pixmodel, max(size))
    seen = leres.normalised(picture.flip(1) * 255)
    found = leres_boost.depths(network, picture, seen, lambda: None)[0, 0].numpy()
    assert bool(made[0].squares) == parts
    assert found.shape == expected.shape == size
    assert expected.std() > 0.01
    assert np.abs(found - expected).max() < 2e-3 * np.ptp(expected)


def test_hints_are_the_detectors() -> None:
    network, picture = small(), scene()
    reference = theirs(network)(
        as_bytes(picture[0]),
        boost=True,
        detect_resolution=512,
        image_resolution=512,
        output_type="np",
    )
    hint = leres.estimate_depth(network, Batch(picture), OPTIONS).pictures[0]
    assert reference.std() > 5
    # The detector rounds the pictures that it resizes to 8 bits, by which it looks at one square
    # more here, in a few percent of the picture; and it cuts its result to 8 bits.
    off = np.abs(hint.movedim(0, -1).numpy() * 255 - reference[..., :1])
    assert np.percentile(off, 90) < 1.05
    assert off.mean() < 1


def test_where_it_looks_closer_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    from controlnet_aux.leres.leres import depthmap

    image = (scene()[0].movedim(0, -1) * 255).numpy()
    gray = depthmap.rgb2gray(image).astype(np.float32)
    side, share = depthmap.calculateprocessingres(image, leres_patches.FIELD, 0.2, 3, 1600)
    found = leres_patches.plan(gray)
    assert found.side == side
    factor = max(min(1, 4 * share * side / 1600), 0.2)
    monkeypatch.setattr(depthmap, "factor", factor, raising=False)
    high, wide = found.enlarged
    large = cv2.resize(image, (wide, high), interpolation=cv2.INTER_CUBIC)
    scale = SIZE[0] / high
    theirs = depthmap.generatepatchs(large, 2 * leres_patches.FIELD)
    rects = [np.round(np.array(one["rect"]) * scale).astype(int) for _, one in theirs]
    assert len(rects) > 2
    assert len({side for _, _, side in found.squares}) > 1, "none was enlarged"
    assert list(found.squares) == [(x, y, size) for x, y, size, _ in map(tuple, rects)]


@pytest.mark.parametrize("shade", [0.0, 0.7])
@pytest.mark.parametrize("size", [(32, 32), (32, 96), (480, 512)])
def test_flat_and_tiny_pictures_are_no_special_case(size: tuple[int, int], shade: float) -> None:
    hint = leres.estimate_depth(small(), Batch(torch.full((1, 3, *size), shade)), OPTIONS).pictures
    assert hint.shape == (1, 1, *size)
    assert hint.isfinite().all()


def test_the_mask_of_parts_is_the_packages() -> None:
    from controlnet_aux.leres.leres.depthmap import generatemask

    expected = cv2.resize(generatemask(()), (150, 101), interpolation=cv2.INTER_LINEAR)
    found = leres_boost._profile(101)[:, None] * leres_boost._profile(150)
    assert np.abs(found.numpy() - expected).max() < 1e-5


def test_cubic_resizing_is_opencvs() -> None:
    image = pictures(40, 60)[0]
    for size in ((130, 97), (23, 31)):
        expected = cv2.resize(
            image.movedim(0, -1).numpy(), size[::-1], interpolation=cv2.INTER_CUBIC
        )
        rows, columns = (resampling.cubic(*pair) for pair in zip((40, 60), size, strict=True))
        made = resampling.apply(image, rows, columns).movedim(0, -1)
        assert np.abs(made.numpy() - expected).max() < 1e-4


def test_frames_are_boosted_one_by_one_and_stop_when_the_user_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few_squares(monkeypatch)
    network, frames = small(), scene(2)
    asked: list[int] = []
    together = leres.estimate_depth(
        network, Batch(frames, check_interrupted=lambda: asked.append(1)), OPTIONS
    ).pictures
    alone = leres.estimate_depth(network, Batch(frames[1:]), OPTIONS).pictures
    assert torch.equal(together[1:], alone)
    assert len(asked) == 6

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leres.estimate_depth(network, Batch(frames, check_interrupted=stop), OPTIONS)


def test_the_merging_network_is_the_packages_with_the_files_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controlnet_aux.leres.pix2pix.models.networks import define_G

    with torch.device("meta"):
        # As the package makes the one that it reads latest_net_G.pth into.
        theirs = define_G(2, 1, 64, "unet_1024", "none", False, "normal", 0.02, []).state_dict()
        ours = leres_boost.merging().state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}
    monkeypatch.setattr(leres_boost, "_WIDTH", 4)
    monkeypatch.setattr(leres, "load", lambda _: Depth())
    weights = random_weights(leres_boost.merging().state_dict())
    assert weights.keys() == theirs.keys()
    network = leres.load_boosted(save(weights, tmp_path / leres.MERGE.name))
    assert all(torch.equal(network.merge.state_dict()[name], weights[name]) for name in weights)
    assert not network.training
    other = save(Depth().state_dict(), tmp_path / leres.MERGE.name)
    with pytest.raises(WeightFileError, match="another network"):
        leres.load_boosted(other)


Make = Callable[..., EmulatedXpu]


def test_a_boosted_hint_is_the_cpus_and_is_made_on_the_card(
    emulated_xpu: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_squares(monkeypatch)
    emulated_xpu([])
    network, images = small(), scene()
    expected = leres.estimate_depth(network, Batch(images), OPTIONS).pictures
    emulated = emulated_xpu([DeviceSpec(A770)])
    network.to("xpu:0")
    there = images.to("xpu:0")
    emulated.reset_counters()
    made = leres.estimate_depth(network, Batch(there), OPTIONS).pictures
    counted = emulated.devices[0].counters()
    assert made.device.type == "xpu"
    assert (made.cpu() - expected).abs().max() < 2e-3
    assert counted["d2h"]["bytes"] <= SIZE[0] * SIZE[1] * 4, (
        "more than one gray picture left the card"
    )
    assert counted["items"] == 0


def test_leres_on_a_card_without_fp64_is_the_cpus(emulated_xpu: Make) -> None:
    emulated_xpu([])
    with torch.device("meta"):
        network = leres.Leres()
    network = sharing(network, random_weights(network.state_dict(), gain=1.0))
    images = pictures(64, 96, 2)
    options = defaults(METHOD)
    expected = leres.estimate_depth(network, Batch(images), options).pictures
    emulated = emulated_xpu([DeviceSpec(A770)])
    network.to("xpu:0")
    there = images.to("xpu:0")
    emulated.reset_counters()
    made = leres.estimate_depth(network, Batch(there), options).pictures
    counted = emulated.devices[0].counters()
    assert made.device.type == "xpu"
    assert counted["items"] == counted["d2h"]["bytes"] == 0
    assert expected.std() > 0.01
    assert (made.cpu() - expected).abs().max() < 1e-3
