"""Depth, normals and poses on an emulated card without fp64: the CPU's results, and no detours."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import depth_anything_original as original
import poses
import pytest
import torch
from annotators import batch, defaults, pictures, random_weights, save, sharing, small_zoe
from comfyui_ipex.nodes.preprocess.method import Method
from comfyui_ipex.nodes.preprocess.networks import depth_anything, midas, normalbae, openpose, zoe
from comfyui_ipex.nodes.preprocess.networks.depth_anything import DepthAnythingSize
from comfyui_ipex.nodes.preprocess.networks.openpose import OpenPose
from torch import Tensor, nn
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

Make = Callable[..., EmulatedXpu]
XPU = torch.device("xpu:0")
SMALL = DepthAnythingSize(64, 4, (1, 2, 3, 4), (8, 16, 24, 32), 16)


@pytest.fixture(autouse=True)
def _no_gradients(emulated_xpu: Make) -> Any:
    emulated_xpu([])  # before transformers is imported
    with torch.inference_mode():
        yield


def anything(folder: Path) -> nn.Module:
    """Depth Anything V2, smaller than any that was published."""
    state = random_weights(original.shapes(SMALL))
    state["depth_head.scratch.output_conv2.2.bias"].fill_(2)
    return depth_anything.loader(SMALL)(save(state, folder / "depth_anything_v2_vits.pth"))


def slopes(folder: Path) -> nn.Module:
    """MiDaS."""
    del folder
    with torch.device("meta"):
        network = midas.Midas()
    weights = random_weights(network.state_dict())
    weights["network.scratch.output_conv.4.bias"].fill_(3)
    return sharing(network, weights)


def normals(folder: Path) -> nn.Module:
    """NormalBae."""
    del folder
    with torch.device("meta"):
        network = normalbae.NormalBae()
    return sharing(network, random_weights(network.state_dict()))


def distances(folder: Path) -> nn.Module:
    """Zoe with a smaller backbone."""
    del folder
    return small_zoe("beitb16_384", (64, 96))


CASES: dict[str, tuple[Method, Callable[[Path], nn.Module], Mapping[str, Any]]] = {
    "DepthAnythingV2": (depth_anything.METHODS[0], anything, {}),
    "MidasNormal": (midas.METHODS[1], slopes, {}),
    "NormalBae": (normalbae.METHODS[0], normals, {}),
    "ZoeDepth": (zoe.METHODS[0], distances, {"gamma_corrected": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hint_is_the_cpus_and_is_made_on_the_card(
    name: str, emulated_xpu: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, make, changed = CASES[name]
    options = {**defaults(method), **changed}
    images = pictures(64, 96, 2)
    network = make(tmp_path)
    monkeypatch.setattr(depth_anything, "TRAINED_SIDE", 70)
    expected = method.make_hint(network, batch(images), options).pictures
    emulated = emulated_xpu([DeviceSpec(A770)])
    network.to(XPU)
    there = images.to(XPU)
    emulated.reset_counters()
    made = method.make_hint(network, batch(there), options).pictures
    counted = emulated.devices[0].counters()
    assert made.device == XPU
    assert counted["kernels"]
    assert counted["items"] == 0, "nothing waits for the card"
    assert counted["d2h"]["bytes"] == 0
    assert counted["h2d"]["bytes"] < 1 << 16, "no pictures"
    assert expected.std() > 0.01
    assert (made.cpu() - expected).abs().max() < 1e-3
    del made, there
    network.to("cpu")
    assert torch.xpu.memory_allocated(0) == 0, "the network left something on the card"


def test_people_are_the_cpus_and_no_picture_leaves_the_card(emulated_xpu: Make) -> None:
    crowd = [poses.person(2.13, 1.17, 9, 20), poses.person(18.13, 4.17, 8, 16)]
    network = OpenPose.__new__(OpenPose)
    nn.Module.__init__(network)
    network.body = poses.Known([poses.maps(crowd, 23, 29)] * 2)
    network.hand, network.face = poses.Spots(22), poses.Spots(71, several=True)
    images = pictures(256, 320, 2)
    options = defaults(openpose.METHODS[0])
    expected = openpose.find_poses(copy.deepcopy(network), batch(images), options)
    emulated = emulated_xpu([DeviceSpec(A770)])
    network.to(XPU)
    there = images.to(XPU)
    emulated.reset_counters()
    made = openpose.find_poses(network, batch(there), options)
    assert len(made.poses[0]["people"]) == 2
    assert flat(made) == pytest.approx(flat(expected), abs=1e-6)
    counted = emulated.devices[0].counters()
    # Maps of 23 by 29 for two pictures, and four hands' maps of 128 by 128 each.
    small = 2 * 57 * 23 * 29 * 4 + 8 * 21 * 128 * 128 * 4
    assert counted["d2h"]["bytes"] < small + (1 << 16)


def flat(hint: Any) -> list[float]:
    """All numbers of all people."""
    everyone = [one for pose in hint.poses for one in pose["people"]]
    return [number for one in everyone for points in one.values() for number in points or ()]


def test_half_precision_runs_on_the_card(emulated_xpu: Make, tmp_path: Path) -> None:
    from comfyui_ipex.inference.weight_files import casting

    network = anything(tmp_path)
    images = pictures(70, 70)
    expected = network(images)
    emulated_xpu([DeviceSpec(A770)])
    casting.attach(network)
    made: Tensor = network.to(XPU, torch.float16)(images.to(XPU))
    assert made.dtype == torch.float32
    assert (made.cpu() - expected).abs().max() < 0.05 * expected.abs().max()
