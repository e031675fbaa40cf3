"""BatchNorm folded into convolutions, and networks of upscalers that are changed for good."""

from typing import Any

import networks as upscalers
import pytest
import torch
from comfyui_ipex.xpu_runtime.optimizing import OptimizeSettings, networks
from comfyui_ipex.xpu_runtime.optimizing.folding import fold
from comfyui_ipex.xpu_runtime.optimizing.layout import is_channels_last
from comfyui_ipex.xpu_runtime.optimizing.networks import Sample
from torch import Tensor, nn

CPU = torch.device("cpu")


class WithNorms(nn.Module):
    """Pairs that can be folded, and others that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.shared = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.looks = nn.Conv2d(8, 3, 1, bias=False)
        self.after = nn.BatchNorm2d(3)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.first(x))
        return self.after(self.looks(self.norm(x) + x))


class Untraceable(nn.Module):
    """Looks at numbers, so that only its parts can be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = WithNorms()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if float(x.sum()) > -1e9 else x


@pytest.mark.parametrize("kind", [WithNorms, Untraceable])
def test_only_norms_that_alone_take_a_convolutions_result_are_folded(
    kind: type[nn.Module],
) -> None:
    network = kind().eval()
    x = torch.randn(1, 3, 12, 12)
    wanted = network(x)
    assert fold(network) == 2
    assert torch.allclose(network(x), wanted, atol=1e-4)
    assert sum(isinstance(one, nn.BatchNorm2d) for one in network.modules()) == 1
    assert fold(network) == 0


def test_norms_that_still_learn_are_not_folded() -> None:
    assert fold(WithNorms().train()) == 0


def run(network: nn.Module, sample: Sample) -> Tensor:
    size = (sample.count, 3, sample.side, sample.side)
    with torch.inference_mode():
        return network(torch.rand(*size, generator=torch.Generator().manual_seed(1)))


def test_a_network_is_folded_and_says_what_was_measured_and_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks.host, "check_interrupted", lambda: None)
    network = WithNorms().eval()
    wanted = run(network, Sample(32))
    report = networks.optimize(network, CPU, OptimizeSettings(), run, (Sample(16), Sample(32, 2)))
    assert torch.allclose(run(network, Sample(32)), wanted, atol=1e-4)
    assert "Folded 2 BatchNorms" in report.text
    assert "channels_last, 2 of 32x32: " in report.text
    assert "Skipped compile: on a CPU" in report.text
    assert "Skipped ipex: it is not installed" in report.text
    kept = "Kept: channels_last." in report.text
    assert kept == is_channels_last(network)


def test_without_verify_what_is_on_is_applied_and_auto_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks.host, "check_interrupted", lambda: None)
    network = upscalers.compact().model
    report = networks.optimize(network, CPU, OptimizeSettings(verify=False, fold=False), run)
    assert "is decided by measuring" in report.text
    assert not is_channels_last(network)
    wishes = OptimizeSettings(verify=False, fold=False, channels_last="on")
    assert "Applied without measuring" in networks.optimize(network, CPU, wishes, run).text
    assert is_channels_last(network)


def test_a_way_that_breaks_is_dropped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(network: nn.Module, channels_last: bool) -> None:
        raise RuntimeError("no such layout")

    monkeypatch.setattr(networks.host, "check_interrupted", lambda: None)
    monkeypatch.setattr(networks, "lay_out", breaks)
    report = networks.optimize(
        upscalers.compact().model, CPU, OptimizeSettings(), run, (Sample(16), Sample(24))
    )
    assert "channels_last, 16x16: RuntimeError: no such layout" in report.text
    assert "Kept: as found." in report.text


def test_without_verify_all_that_is_on_is_applied_but_what_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("backend='inductor' raised:\nno compiler")

    monkeypatch.setattr(networks.host, "check_interrupted", lambda: None)
    monkeypatch.setattr(networks, "no_compiler", lambda device: "")
    wishes = OptimizeSettings(verify=False, fold=False, channels_last="on", compile="full")
    network = upscalers.compact().model
    monkeypatch.setattr(nn.Module, "compile", lambda self, dynamic: None)
    report = networks.optimize(network, CPU, wishes, run, (Sample(16), Sample(24)))
    assert "Applied without measuring: channels_last, compiled." in report.text
    network = upscalers.compact().model
    monkeypatch.setattr(nn.Module, "compile", breaks)
    report = networks.optimize(network, CPU, wishes, run, (Sample(16), Sample(24)))
    assert "Applied without measuring: channels_last." in report.text
    assert "Skipped compiled: RuntimeError: backend='inductor' raised: no compiler." in report.text
    monkeypatch.setattr(networks, "lay_out", breaks)
    report = networks.optimize(
        upscalers.compact().model, CPU, wishes, run, (Sample(16), Sample(24))
    )
    assert networks.UNCHANGED in report.text
