"""Zoe against controlnet_aux's detector, with a smaller backbone that looks at smaller pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotators import as_bytes, batch, off_by, pictures, save, small_zoe
from comfyui_ipex.inference.dry_run import cost_of, without_numbers
from comfyui_ipex.inference.weight_files import WeightFileError
from comfyui_ipex.nodes.preprocess.networks import zoe
from torch import nn

SMALL = ("beitb16_384", (64, 96))


@pytest.fixture(scope="module", autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Zoe with random weights."""
    return small_zoe(*SMALL)


@pytest.fixture(scope="module")
def detector(network: nn.Module) -> Any:
    """The package's detector with the same weights."""
    from controlnet_aux import ZoeDetector
    from controlnet_aux.zoe.zoedepth.models.base_models.midas import MidasCore
    from controlnet_aux.zoe.zoedepth.models.base_models.midas_repo.midas.dpt_depth import (
        DPTDepthModel,
    )
    from controlnet_aux.zoe.zoedepth.models.zoedepth.zoedepth_v1 import ZoeDepth
    from controlnet_aux.zoe.zoedepth.utils.config import get_config

    with torch.device("meta"):
        depth = DPTDepthModel(backbone=SMALL[0])
        core = MidasCore(depth, img_size=SMALL[1], keep_aspect_ratio=True)
        core.set_output_channels("DPT_BEiT_L_384")
        theirs = ZoeDepth(core, **get_config("zoedepth", "infer"))
    # The package's own load_state_dict takes what fits and says nothing of the rest.
    nn.Module.load_state_dict(theirs, network.network.state_dict(), assign=True)
    return ZoeDetector(zoe._completed(theirs.eval()))


@pytest.mark.parametrize("gamma", [False, True], ids=["", "gamma"])
def test_zoe_equals_its_detector(network: nn.Module, detector: Any, gamma: bool) -> None:
    images = pictures(64, 128)
    reference = detector(
        as_bytes(images[0]), detect_resolution=64, image_resolution=64, gamma_corrected=gamma
    )
    assert reference.std() > 5
    ours = zoe.estimate_depth(network, batch(images), {"gamma_corrected": gamma}).pictures[0]
    # Whole 1/255, and what a network with random weights makes of rounding.
    assert off_by(ours, reference) < 1.1


def test_what_files_do_not_hold_is_known() -> None:
    with torch.device("meta"):
        network = zoe.Zoe(*SMALL)
    missing = {name for name, _ in network.named_buffers()} - network.state_dict().keys()
    assert {name.rpartition(".")[2] for name in missing} <= {"k_bias", "relative_position_index"}


def test_a_copy_of_zoe_does_not_read_the_other_ones_results(network: nn.Module) -> None:
    images = pictures(64, 64)
    before = network(images)
    twin = without_numbers(network)
    assert cost_of(twin, torch.empty(2, 3, 64, 64, device="meta")).peak > 0
    assert torch.equal(network(images), before)


def test_quantiles_are_numpys() -> None:
    maps = torch.rand(3, 1, 7, 9, generator=torch.Generator().manual_seed(1))
    low, high = zoe._quantiles(maps, (0.02, 0.85))
    for index in range(3):
        expected = np.percentile(maps[index].numpy(), (2, 85))
        assert [float(low[index]), float(high[index])] == pytest.approx(expected, abs=1e-6)


def test_what_files_may_hold_or_lack_is_left_out_or_computed_and_nothing_else(
    network: nn.Module,
) -> None:
    state = dict(network.network.state_dict())
    state["core.core.pretrained.model.blocks.0.attn.relative_position_index"] = torch.zeros(1)
    state["something.else"] = torch.zeros(1)
    del state["conditional_log_binomial.log_binomial_transform.k_idx"]
    known = zoe._known(state, network)
    assert known.keys() - network.state_dict().keys() == {"network.something.else"}
    for name, value in network.state_dict().items():
        assert torch.equal(known[name], value), name


def test_another_networks_file_is_refused(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoe, "Zoe", lambda: network)
    paths = save({"conv.weight": torch.zeros(3, 3)}, tmp_path / "ZoeD_M12_N.pt", "model")
    with pytest.raises(WeightFileError, match="weights are those of another network"):
        zoe.load(paths)
