"""Layouts and compiled blocks of networks: the same results, and nothing left behind."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
from comfyui_ipex.xpu_runtime.optimizing import blocks, norms
from comfyui_ipex.xpu_runtime.optimizing.layout import is_channels_last, lay_out
from comfyui_ipex.xpu_runtime.optimizing.state import MOST_GRAPHS, NetworkState
from torch import Tensor, nn
from torch._dynamo.utils import counters


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
    state = NetworkState()
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
    NetworkState().restore(network)
    assert is_channels_last(network)


def test_weights_that_were_loaded_anew_are_laid_out_again() -> None:
    network, state = Network(), NetworkState()
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
    state = NetworkState()
    for number in (*range(MOST_GRAPHS), 0, MOST_GRAPHS):
        state.keep(number, 1, object())  # type: ignore[arg-type]
    assert list(state.graphs) == [2, 3, 0, 4]
