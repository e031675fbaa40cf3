"""Instance norms that are quick on the CPU."""

import pytest
import torch
from comfyui_ipex.nodes.preprocess.method import Network
from comfyui_ipex.nodes.preprocess.networks.instance_norms import InstanceNorm, with_quick_norms
from comfyui_ipex.nodes.preprocess.networks.lineart import METHODS
from torch import nn


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("mean", "spread"), [(0.5, 1.0), (10.0, 1e-2), (-300.0, 0.5), (7.0, 0.0)], ids=str
)
def test_a_norm_is_torchs_own_also_of_what_is_far_from_0_and_nearly_flat(
    mean: float, spread: float, layout: torch.memory_format
) -> None:
    noise = torch.randn(2, 5, 33, 48, generator=torch.Generator().manual_seed(3))
    maps = (mean + spread * noise).contiguous(memory_format=layout)
    wanted = nn.InstanceNorm2d(5)(maps.double()).float()
    with torch.inference_mode():
        found = InstanceNorm(1e-5)(maps.clone())
    assert (found - wanted).abs().max() < 1e-3
    assert found.is_contiguous(memory_format=layout)


def test_norms_with_weights_stay_as_they_are() -> None:
    parts = [nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True)]
    found = with_quick_norms(nn.Sequential(*parts).eval())
    kinds = [type(part) for part in found.children()]
    assert kinds == [nn.Conv2d, InstanceNorm, nn.InstanceNorm2d]
    assert not found[1].training


def test_line_art_has_its_channels_last_on_the_cpu_alone() -> None:
    network = METHODS[0].networks["disable"]
    assert network.layout(torch.device("cpu")) == torch.channels_last
    assert network.layout(torch.device("cuda", 0)) == torch.contiguous_format
    assert network.layout(torch.device("xpu", 0)) == torch.contiguous_format
    assert Network((), lambda _: nn.Identity()).layout(torch.device("xpu")) == torch.channels_last
