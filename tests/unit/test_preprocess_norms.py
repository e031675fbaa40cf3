"""Norms, reflections and convolutions that are quick where channels come last. Emulated cards."""

import copy
from collections.abc import Callable

import pytest
import torch
from comfyui_ipex.nodes.preprocess.method import NetworkSpec
from comfyui_ipex.nodes.preprocess.networks.fast_layers import (
    InstanceNorm,
    OfPictures,
    ReflectionPad,
    ToOneMap,
    with_channels_last,
    with_quick_norms,
)
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


def test_a_convolution_before_a_norm_adds_nothing_that_the_norm_takes_off_again() -> None:
    torch.manual_seed(4)
    parts = [nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.ConvTranspose2d(4, 2, 3), nn.ReLU()]
    plain = nn.Sequential(*parts).eval()
    with torch.inference_mode():
        wanted = plain(_noise(3))
        found = with_quick_norms(copy.deepcopy(plain))
        assert (found(_noise(3)) - wanted).abs().max() < 1e-5
    assert found[0].bias is None
    assert found[2].bias is not None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("channels", "maps", "kind"), [(5, 1, ToOneMap), (3, 5, OfPictures)])
def test_a_convolution_to_one_map_or_of_pictures_is_torchs_own(
    channels: int, maps: int, kind: type[nn.Module], bias: bool
) -> None:
    convolution = nn.Conv2d(channels, maps, 7, bias=bias)
    plain = nn.Sequential(nn.ReflectionPad2d(3), convolution).eval()
    found = with_channels_last(copy.deepcopy(plain))
    assert [type(part) for part in found] == [ReflectionPad, kind]
    assert not any(part.training for part in found)
    with torch.inference_mode():
        assert (found(_noise(channels)) - plain(_noise(channels))).abs().max() < 1e-5


def test_other_convolutions_and_uneven_reflections_stay_as_they_are() -> None:
    parts = [nn.Conv2d(5, 2, 3), nn.Conv2d(5, 1, 3, stride=2), nn.ReflectionPad2d((1, 1, 2, 2))]
    assert list(with_channels_last(nn.Sequential(*parts))) == parts


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("part", "channels"),
    [
        (InstanceNorm(1e-5), 5),
        (ReflectionPad(1), 5),
        (ReflectionPad(3), 5),
        (ToOneMap(nn.Conv2d(5, 1, 7)), 5),
        (OfPictures(nn.Conv2d(3, 4, 7)), 3),
    ],
)
def test_on_a_card_the_result_is_the_cpus_and_channels_stay_where_they_were(
    part: nn.Module,
    channels: int,
    layout: torch.memory_format,
    emulated_xpu: Callable[..., object],
) -> None:
    emulated_xpu()
    maps = (_noise(channels) - 0.5).contiguous(memory_format=layout)
    there = copy.deepcopy(part).to("xpu:0")
    with torch.inference_mode():
        found = there(maps.to("xpu:0"))
        assert found.device.type == "xpu"
        assert (found.cpu() - part(maps)).abs().max() < 1e-5
    if found.shape[1] > 1:
        assert found.is_contiguous(memory_format=layout)


def test_line_art_has_its_channels_last_everywhere() -> None:
    network = METHODS[0].networks["disable"]
    for device in ("cpu", "cuda:0", "xpu:0"):
        assert network.layout(torch.device(device)) == torch.channels_last
    assert (
        NetworkSpec((), lambda _: nn.Identity()).layout(torch.device("xpu")) == torch.channels_last
    )


def _noise(channels: int) -> torch.Tensor:
    return torch.randn(2, channels, 33, 48, generator=torch.Generator().manual_seed(3))
