"""IPEX 2.8.0 for CPUs itself, and what IPEX Optimize does with it. Run by `./test --ipex`."""

import copy
from typing import Any

import intel_extension_for_pytorch as ipex
import networks as upscalers
import pytest
import torch
from comfyui_ipex.xpu_runtime.optimizing import OptimizeSettings, networks
from comfyui_ipex.xpu_runtime.optimizing.networks import Sample
from comfyui_ipex.xpu_runtime.optimizing.surroundings import no_ipex
from torch import Tensor, nn

CPU = torch.device("cpu")


class HostLinear(nn.Linear):
    """A subclass, as all of ComfyUI's layers are."""


def two_layers(kind: type[nn.Linear]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(kind(64, 64), nn.ReLU(), kind(64, 64)).eval().requires_grad_(False)


def kinds(network: nn.Module) -> set[str]:
    return {type(one).__name__ for one in network.modules()}


def prepacked(network: nn.Module) -> nn.Module:
    """Optimised as by default, but that no graph is traced: the host's networks cannot be."""
    made = ipex.optimize(network, inplace=True, conv_bn_folding=False, linear_bn_folding=False)
    assert isinstance(made, nn.Module)
    return made


@torch.inference_mode()
def test_it_replaces_none_of_the_hosts_layers_and_ignores_what_changes_those_that_it_takes() -> (
    None
):
    """Why IPEX Optimize does not use it for diffusion models."""
    x = torch.randn(16, 64)
    given = two_layers(HostLinear)
    assert kinds(prepacked(copy.deepcopy(given))) == kinds(given)
    taken = prepacked(two_layers(nn.Linear))
    assert kinds(taken) != kinds(two_layers(nn.Linear))
    before = taken(x)
    with torch.no_grad():
        changed = nn.Parameter(torch.zeros_like(given[0].weight), requires_grad=False)
    taken[0].weight = changed
    assert torch.equal(taken(x), before), "a LoRA that comes later would have no effect"


def test_this_ipex_fits_this_torch_and_is_found() -> None:
    assert no_ipex() == ""


def run(network: nn.Module, sample: Sample) -> Tensor:
    with torch.inference_mode():
        picture = torch.rand(
            1, 3, sample.side, sample.side, generator=torch.Generator().manual_seed(1)
        )
        result = network(picture)
    assert isinstance(result, Tensor)
    return result


@pytest.mark.parametrize("make", [upscalers.compact, upscalers.rrdb])
def test_an_upscaler_is_measured_with_it_and_computes_the_same(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks.host, "check_interrupted", lambda: None)
    network = make().model
    wanted = {sample: run(network, sample) for sample in map(Sample, (32, 48, 57))}
    report = networks.optimize(
        network, CPU, OptimizeSettings(backend="ipex"), run, (Sample(32), Sample(48))
    )
    assert "  ipex without prepacking, 32x32: " in report.text
    assert "ms (" in report.text
    for sample, picture in wanted.items():
        assert torch.allclose(run(network, sample), picture, atol=1e-4)


def test_without_measuring_it_is_applied_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks.host, "check_interrupted", lambda: None)
    network = upscalers.compact().model
    wanted = run(network, Sample(40))
    wishes = OptimizeSettings(backend="ipex", verify=False, fold=False)
    report = networks.optimize(network, CPU, wishes, run)
    assert "Applied without measuring: ipex without prepacking." in report.text
    assert torch.allclose(run(network, Sample(40)), wanted, atol=1e-4)
