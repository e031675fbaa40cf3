"""Layouts, folding and compiled blocks of networks: the same results, and nothing left behind."""

import copy
from collections.abc import Callable
from typing import Any

import networks as upscalers
import pytest
import torch
import torch._dynamo
from comfyui_ipex.xpu_runtime.optimizing import Wishes, blocks, networks, norms
from comfyui_ipex.xpu_runtime.optimizing.folding import fold
from comfyui_ipex.xpu_runtime.optimizing.layout import is_channels_last, lay_out
from comfyui_ipex.xpu_runtime.optimizing.state import MOST_GRAPHS, State
from torch import Tensor, nn
from torch._dynamo.utils import counters

CPU = torch.device("cpu")


class Residual(nn.Module):
    """A block as in UNets: norm, activation, convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.norm = nn.GroupNorm(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.in_layers(x))


class BasicTransformerBlock(nn.Module):
    """Called as the host's class of this name is."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, features)

    def forward(self, x: Tensor, context: Any = None, transformer_options: Any = None) -> Tensor:
        for patch in (transformer_options or {}).get("patches", {}).get("attn1_patch", []):
            x = patch(x)
        return x + torch.nn.functional.gelu(self.first(x)) * (0 if context is None else 1)


class Network(nn.Module):
    """Blocks of both kinds, of two widths."""

    def __init__(self) -> None:
        super().__init__()
        self.residuals = nn.ModuleList([Residual(16), Residual(16)])
        self.wider = nn.Conv2d(16, 32, 1)
        self.last = Residual(32)
        self.blocks = nn.ModuleList([BasicTransformerBlock(16), BasicTransformerBlock(16)])
        torch.manual_seed(3)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.3)

    def forward(self, x: Tensor, context: Any = None, transformer_options: Any = None) -> Tensor:
        options = transformer_options if transformer_options is not None else {}
        for number, block in enumerate(self.blocks):
            x = self.residuals[number](x)
            options["block"] = ("input", number)
            flat = x.movedim(1, 3).flatten(1, 2).contiguous()
            flat = block(flat, context=context, transformer_options=options)
            x = flat.reshape(x.shape[0], *x.shape[2:], -1).movedim(3, 1).contiguous()
        return self.last(self.wider(x))


@pytest.fixture
def fresh() -> Any:
    """torch's compiler without what other tests have compiled."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled() -> int:
    return int(counters["stats"].get("unique_graphs", 0))


@torch.inference_mode()
def test_blocks_are_compiled_once_for_all_sizes_and_compute_the_same(fresh: None) -> None:
    network = Network().eval()
    lay_out(network, True)
    context = torch.randn(2, 5, 16)
    calls = blocks.calls(network, "blocks", None, backend="eager")
    counts = []
    for height, width in ((16, 16), (24, 24), (16, 24), (32, 8), (8, 8)):
        x = torch.randn(2, 16, height, width).contiguous(memory_format=torch.channels_last)
        wanted = network(x, context)
        with blocks.called(calls):
            found = network(x, context)
        assert torch.allclose(found, wanted, atol=1e-4)
        counts.append(compiled())
    assert counts[0] == counts[-1] == 3, "norm, norm with SiLU, one block"


@torch.inference_mode()
def test_changed_weights_are_used_without_compiling_again(fresh: None) -> None:
    network = Network().eval().requires_grad_(False)
    x, context = torch.randn(2, 16, 16, 16), torch.randn(2, 5, 16)
    calls = blocks.calls(network, "blocks", None, backend="eager")
    with blocks.called(calls):
        before = network(x, context)
    count = compiled()
    for block in network.blocks:
        block.first.weight = nn.Parameter(block.first.weight * 2, requires_grad=False)
    with blocks.called(calls):
        found = network(x, context)
    assert torch.allclose(found, network(x, context), atol=1e-4)
    assert not torch.allclose(found, before, atol=1e-2)
    assert compiled() == count


@torch.inference_mode()
def test_blocks_with_code_of_other_nodes_run_as_they_are(fresh: None) -> None:
    network = Network().eval()
    x, context = torch.randn(2, 16, 16, 16), torch.randn(2, 5, 16)
    calls = blocks.calls(network, "blocks", None, backend="eager")
    seen: list[Any] = []

    def patch(value: Tensor) -> Tensor:
        seen.append(value.shape)
        return value + 1

    options = {"patches": {"attn1_patch": [patch]}}
    wanted = network(x, context, copy.deepcopy(options))
    with blocks.called(calls):
        found = network(x, context, copy.deepcopy(options))
    assert torch.allclose(found, wanted, atol=1e-4)
    assert len(seen) == 4


def test_compiled_calls_are_gone_after_a_step_that_fails() -> None:
    network = Network()
    calls = blocks.calls(network, "blocks", None, backend="eager")
    other = next(iter(calls))
    with pytest.raises(KeyboardInterrupt), blocks.called(calls):
        assert all(one._compiled_call_impl is not None for one in calls)
        raise KeyboardInterrupt
    assert all(one._compiled_call_impl is None for one in network.modules())
    theirs = lambda *_: None  # noqa: E731
    other._compiled_call_impl = theirs
    with blocks.called(calls):
        assert other._compiled_call_impl is theirs
    assert other._compiled_call_impl is theirs


def test_blocks_of_other_networks_are_the_members_of_their_lists() -> None:
    network = nn.Module()
    network.double_blocks = nn.ModuleList([Residual(16), Residual(16)])
    network.embedders = nn.ModuleList([nn.Linear(1, 1), nn.SiLU()])
    assert blocks.repeated(network) == list(network.double_blocks)


@pytest.mark.parametrize("function", [norms.norm, norms.norm_silu])
@pytest.mark.parametrize("size", [(2, 64, 16, 16), (1, 32, 9, 7), (3, 96, 8, 8)])
def test_norms_with_channels_last_equal_torchs_own(
    function: Callable[..., Tensor], size: tuple[int, ...]
) -> None:
    module = nn.GroupNorm(32, size[1])
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    x = (torch.randn(size) * 3 + 2).contiguous(memory_format=torch.channels_last)
    wanted = module(x)
    if function is norms.norm_silu:
        wanted = torch.nn.functional.silu(wanted)
    found = norms.group_norm(function, module, x)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert norms.applies(module, x)
    assert not norms.applies(module, x.contiguous())
    assert not norms.applies(module, x.half())


def test_the_layout_is_undone_and_the_weights_stay_the_same() -> None:
    network = Network()
    before = {name: (one.clone(), one.stride()) for name, one in network.named_parameters()}
    state = State()
    state.lay_out(network, True, network)
    assert is_channels_last(network)
    assert state.owned_by(network)
    state.restore(network)
    assert not is_channels_last(network)
    for name, one in network.named_parameters():
        assert torch.equal(one, before[name][0])
        assert one.stride() == before[name][1]


def test_a_layout_that_was_found_is_not_undone() -> None:
    network = Network()
    lay_out(network, True)
    State().restore(network)
    assert is_channels_last(network)


def test_weights_that_were_loaded_anew_are_laid_out_again() -> None:
    network, state = Network(), State()
    state.lay_out(network, True, network)
    weights = state.fingerprint(network)
    convolution = network.last.in_layers[2]
    older = convolution.weight  # else the new one may be put in its place
    convolution.weight = nn.Parameter(convolution.weight.contiguous().clone())
    state.loaded()
    state.lay_out(network, True, network)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert state.fingerprint(network) != weights
    assert older.data_ptr() != convolution.weight.data_ptr()


def test_few_recorded_steps_are_kept_those_used_last() -> None:
    state = State()
    for number in (*range(MOST_GRAPHS), 0, MOST_GRAPHS):
        state.keep(number, 1, object())  # type: ignore[arg-type]
    assert list(state.graphs) == [2, 3, 0, 4]


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


def run(network: nn.Module, side: int) -> Tensor:
    with torch.inference_mode():
        return network(torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)))


def test_a_network_is_folded_and_says_what_was_measured_and_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks.host, "check_interrupted", lambda: None)
    network = WithNorms().eval()
    wanted = run(network, 32)
    report = networks.optimize(network, CPU, Wishes(), run, (16, 32))
    assert torch.allclose(run(network, 32), wanted, atol=1e-4)
    assert "Folded 2 BatchNorms" in report.text
    assert "channels_last, 32x32: " in report.text
    assert "Skipped compile: on a CPU" in report.text
    assert "Skipped ipex: it is not installed" in report.text
    kept = "Kept: channels_last." in report.text
    assert kept == is_channels_last(network)


def test_without_verify_what_is_on_is_applied_and_auto_is_not() -> None:
    network = upscalers.compact().model
    report = networks.optimize(network, CPU, Wishes(verify=False, fold=False), run)
    assert "is decided by measuring" in report.text
    assert not is_channels_last(network)
    wishes = Wishes(verify=False, fold=False, channels_last="on")
    assert "Applied without measuring" in networks.optimize(network, CPU, wishes, run).text
    assert is_channels_last(network)


def test_a_way_that_breaks_is_dropped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(network: nn.Module, channels_last: bool) -> None:
        raise RuntimeError("no such layout")

    monkeypatch.setattr(networks.host, "check_interrupted", lambda: None)
    monkeypatch.setattr(networks, "lay_out", breaks)
    report = networks.optimize(upscalers.compact().model, CPU, Wishes(), run, (16, 24))
    assert "channels_last, 16x16: RuntimeError: no such layout" in report.text
    assert "Kept: as found." in report.text
