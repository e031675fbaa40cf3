"""Depth and normal networks against their references, on the same random weights and a photo.

References truncate their results to whole 1/255, which is the tolerance, with a little for
rounding in fp32, which random networks amplify. Sizes are multiples of 64, where references do
not resize.
"""

from pathlib import Path
from typing import Any

import depth_anything_original as original
import pytest
import torch
import xpu_emulator
from annotators import as_bytes, batch, defaults, off_by, pictures, random_weights, save, sharing
from comfyui_ipex.inference.dry_run import cost_of, without_numbers
from comfyui_ipex.inference.weight_files import WeightFileError, casting
from comfyui_ipex.nodes.preprocess.networks import depth_anything, midas, normalbae
from comfyui_ipex.nodes.preprocess.networks.depth_anything import (
    SIZES,
    DepthAnything,
    DepthAnythingSize,
)
from comfyui_ipex.nodes.preprocess.networks.depth_maps import stretched
from torch import Tensor, nn

TRUNCATED = 1.05
PLAIN = DepthAnythingSize(64, 4, (1, 2, 3, 4), (8, 16, 24, 32), 16)
GATED = DepthAnythingSize(64, 4, (1, 2, 3, 4), (8, 16, 24, 32), 16, gated=True)


@pytest.fixture(scope="module", autouse=True)
def _no_gradients() -> Any:
    # transformers has torch decide whether there is an XPU. The emulated ones, which other tests
    # of this process may want, have to be there before.
    if not xpu_emulator.is_installed():
        xpu_emulator.install([])
    with torch.inference_mode():
        yield


def anything(size: DepthAnythingSize, folder: Path) -> tuple[dict[str, Tensor], nn.Module]:
    """A checkpoint with the original's names, and the network that was loaded from it."""
    state = random_weights(original.shapes(size))
    state["depth_head.scratch.output_conv2.2.bias"].fill_(2)  # nothing is cut off at 0
    path = folder / "depth_anything_v2_vits.pth"
    return state, depth_anything.loader(size)(save(state, path))


@pytest.fixture(scope="module")
def midas_weights() -> dict[str, Tensor]:
    """Of MiDaS's network."""
    with torch.device("meta"):
        weights = random_weights(midas.Midas().network.state_dict())
    weights["scratch.output_conv.4.bias"].fill_(3)  # nothing is cut off at 0
    return weights


@pytest.fixture(scope="module")
def midas_network(midas_weights: dict[str, Tensor], tmp_path_factory: Any) -> nn.Module:
    """MiDaS as it is loaded from its file."""
    return midas.load(save(midas_weights, tmp_path_factory.mktemp("midas") / "dpt_hybrid.pt"))


@pytest.mark.parametrize("size", [PLAIN, GATED], ids=["plain", "gated"])
def test_depth_anything_computes_what_the_original_computes(
    size: DepthAnythingSize, tmp_path: Path
) -> None:
    state, network = anything(size, tmp_path)
    images = pictures(42, 70, 2)
    reference = original.depths(state, size, images)
    assert reference.std() > 0.01
    assert torch.allclose(network(images)[:, 0], reference, atol=1e-5)


def test_depth_anything_makes_the_originals_picture(tmp_path: Path) -> None:
    state, network = anything(PLAIN, tmp_path)
    images = pictures(60, 80)
    reference = original.picture(state, PLAIN, as_bytes(images[0]))
    hint = depth_anything.estimate_depth(network, batch(images), {})
    assert (hint.pictures[0, 0] - torch.from_numpy(reference)).abs().max() < 1e-4


@pytest.mark.parametrize("name", SIZES)
def test_published_checkpoints_fill_their_network(name: str) -> None:
    with torch.device("meta"):
        expected = DepthAnything(SIZES[name]).network.state_dict()
    renamed = depth_anything.renamed(original.shapes(SIZES[name]), expected.keys())
    assert {k: v.shape for k, v in renamed.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (518, 518)), ((480, 640), (518, 686)), ((1080, 1920), (518, 924))],
)
def test_the_shorter_side_is_looked_at_as_in_training(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert depth_anything.network_size(*size) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 800), (518, 4144)), ((1, 48), (84, 4144)), ((16384, 1), (4144, 14))],
)
def test_thin_pictures_are_looked_at_at_a_size_that_ends(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert depth_anything.network_size(*size) == expected


def test_midas_equals_its_detector(midas_weights: Any, midas_network: nn.Module) -> None:
    from controlnet_aux import MidasDetector
    from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

    with torch.device("meta"):
        theirs = DPTDepthModel(backbone="vitb_rn50_384", non_negative=True)
    detector = MidasDetector(sharing(theirs, midas_weights))
    images = pictures(64, 128)
    depth, normal = detector(
        as_bytes(images[0]), depth_and_normal=True, detect_resolution=64, image_resolution=64
    )
    ours = midas.estimate_depth(midas_network, batch(images), {}).pictures[0]
    assert depth.std() > 5
    assert off_by(ours, depth) < TRUNCATED
    ours = midas.estimate_normals(
        midas_network, batch(images), defaults(midas.METHODS[1])
    ).pictures[0]
    assert normal.std((0, 1)).min() > 1
    assert off_by(ours, normal) < TRUNCATED


def test_a_copy_of_midas_does_not_read_the_other_ones_results(midas_network: nn.Module) -> None:
    images = pictures(64, 64)
    before = midas_network(images)
    twin = without_numbers(midas_network)
    assert cost_of(twin, torch.empty(4, 3, 64, 64, device="meta")).peak > 0
    assert torch.equal(midas_network(images), before)


def test_midas_keeps_nothing_of_a_call(midas_network: nn.Module) -> None:
    midas_network(pictures(64, 64))
    assert not midas_network.network.pretrained.activations


def test_normalbae_equals_its_detector(tmp_path: Path) -> None:
    from controlnet_aux import NormalBaeDetector

    with torch.device("meta"):
        weights = random_weights(normalbae.NormalBae().state_dict())
    path = tmp_path / "scannet.pt"
    network = normalbae.load(
        save({f"module.{name}": value for name, value in weights.items()}, path, "model")
    )
    detector = NormalBaeDetector.from_pretrained(str(tmp_path))
    images = pictures(64, 128)
    reference = detector(
        as_bytes(images[0]), detect_resolution=64, image_resolution=64, output_type="np"
    )
    assert reference.std((0, 1)).min() > 5
    assert (
        off_by(normalbae.estimate_normals(network, batch(images), {}).pictures[0], reference)
        < TRUNCATED
    )


def test_normalbae_leaves_no_package_behind() -> None:
    import sys

    for known in [name for name in sys.modules if name.partition(".")[0] == "geffnet"]:
        del sys.modules[known]  # the reference's
    before = list(sys.path)
    with torch.device("meta"):
        normalbae.NormalBae()
    assert sys.path == before
    assert not [name for name in sys.modules if name.partition(".")[0] == "geffnet"]


def test_a_batch_is_what_its_pictures_are_alone(
    midas_network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(64, 96, 3)
    _, network = anything(PLAIN, tmp_path)
    monkeypatch.setattr(depth_anything, "TRAINED_SIDE", 70)
    for run, with_weights in (
        (midas.estimate_depth, midas_network),
        (depth_anything.estimate_depth, network),
    ):
        together = run(with_weights, batch(images), {}).pictures
        alone = [run(with_weights, batch(image[None]), {}).pictures for image in images]
        assert (together - torch.cat(alone)).abs().max() < 2e-4


def test_networks_compute_in_half_precision_and_give_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, network = anything(PLAIN, tmp_path)
    monkeypatch.setattr(depth_anything, "TRAINED_SIDE", 70)
    images = pictures(42, 42)
    exact = depth_anything.estimate_depth(network, batch(images), {}).pictures
    casting.attach(network)
    half = depth_anything.estimate_depth(network.to(torch.bfloat16), batch(images), {}).pictures
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.2


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    paths = save({"conv.weight": torch.zeros(3, 3)}, tmp_path / "dpt_hybrid.pt")
    for load in (midas.load, normalbae.load, depth_anything.loader(PLAIN)):
        with pytest.raises(WeightFileError, match="weights are those of another network"):
            load(paths)


def test_a_depth_that_is_the_same_everywhere_is_black() -> None:
    assert torch.equal(stretched(torch.full((2, 1, 4, 4), 7.0)), torch.zeros(2, 1, 4, 4))
