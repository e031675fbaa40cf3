"""Gradients, autocast, random numbers, compilation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from xpu_emulator import EmulatedXpu

pytestmark = pytest.mark.usefixtures("two_cards")


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.norm = nn.GroupNorm(2, 8)
        self.project = nn.Linear(8, 24)
        self.final = nn.LayerNorm(8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = functional.silu(self.norm(self.up(self.conv(image)))).flatten(2).transpose(1, 2)
        query, key, value = self.project(tokens).chunk(3, -1)
        return self.final(tokens + functional.scaled_dot_product_attention(query, key, value))


def _trained(device: str) -> tuple[list[torch.Tensor], float]:
    torch.manual_seed(0)
    net, image, target = _Net(), torch.randn(2, 3, 4, 4), torch.randn(2, 64, 8)
    net.to(device)
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)
    for _ in range(3):
        optimiser.zero_grad()
        loss = (net(image.to(device)) - target.to(device)).square()[:, ::2].mean()
        loss.backward()
        optimiser.step()
    return [parameter.detach().cpu() for parameter in net.parameters()], loss.item()


@pytest.mark.parametrize("device", ["xpu:0", "xpu:1"])
def test_training_agrees_with_the_cpu(device: str) -> None:
    expected, expected_loss = _trained("cpu")
    found, found_loss = _trained(device)
    assert found_loss == pytest.approx(expected_loss, rel=1e-4)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_gradients_live_on_the_card() -> None:
    weight = torch.randn(3, 4, device="xpu:1", requires_grad=True)
    (weight * weight).sum().backward()
    assert weight.grad is not None and weight.grad.device == torch.device("xpu", 1)
    assert torch.equal(weight.grad, 2 * weight.detach())


@pytest.mark.parametrize("causal", [False, True])
def test_attention_has_gradients(causal: bool) -> None:
    inputs = [torch.randn(1, 2, 6, 8) for _ in range(3)]
    gradients = []
    for device in ("cpu", "xpu"):
        leaves = [tensor.to(device, copy=True).requires_grad_() for tensor in inputs]
        functional.scaled_dot_product_attention(*leaves, is_causal=causal).square().sum().backward()
        gradients.append([leaf.grad.cpu() for leaf in leaves])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_attention_masks() -> None:
    query = torch.randn(1, 2, 6, 8)
    for mask in (torch.rand(6, 6) > 0.3, torch.randn(6, 6)):
        mask[:, 0] = 1
        expected = functional.scaled_dot_product_attention(
            query, query, query, attn_mask=mask, scale=0.5
        )
        card = query.to("xpu")
        found = functional.scaled_dot_product_attention(
            card, card, card, attn_mask=mask.to("xpu"), scale=0.5
        )
        torch.testing.assert_close(found.cpu(), expected)


def test_autocast() -> None:
    left = torch.randn(4, 4, device="xpu")
    with torch.autocast("xpu", dtype=torch.bfloat16):
        assert (left @ left).dtype == torch.bfloat16
        assert functional.softmax(left @ left, -1).dtype == torch.float32
    assert (left @ left).dtype == torch.float32


def test_seeds_repeat_but_differ_from_the_cpu() -> None:
    torch.manual_seed(5)
    first = torch.randn(8, device="xpu:0")
    on_cpu = torch.randn(8)
    torch.manual_seed(5)
    assert torch.equal(torch.randn(8, device="xpu:0"), first)
    assert torch.equal(torch.randn(8), on_cpu)
    assert torch.equal(torch.randn(8, device="xpu:1").cpu(), first.cpu())
    assert not torch.equal(first.cpu(), on_cpu)


def test_a_card_does_not_draw_from_the_cpus_generator() -> None:
    before = torch.get_rng_state()
    torch.randn(4, device="xpu")
    torch.rand_like(torch.ones(4, device="xpu"))
    functional.dropout(torch.ones(64, device="xpu"), 0.5)
    torch.ones(4, device="xpu").bernoulli_(0.5)
    torch.randperm(4, device="xpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_generators() -> None:
    generator = torch.Generator("xpu:1").manual_seed(3)
    assert generator.device == torch.device("xpu", 1) and generator.initial_seed() == 3
    state = generator.get_state()
    first = torch.randn(4, device="xpu:1", generator=generator)
    generator.set_state(state)
    assert torch.equal(torch.randn(4, device="xpu:1", generator=generator), first)
    with pytest.raises(RuntimeError, match="Expected a 'xpu' device type for generator"):
        torch.randn(4, device="xpu", generator=torch.Generator())
    torch.xpu.manual_seed(9)
    assert torch.xpu.initial_seed() == 9
    saved = torch.xpu.get_rng_state()
    draw = torch.rand(2, device="xpu")
    torch.xpu.set_rng_state(saved)
    assert torch.equal(torch.rand(2, device="xpu"), draw)


def test_rng_like_cpu(two_cards: EmulatedXpu) -> None:
    two_cards.set_options(rng_like_cpu=True)
    torch.manual_seed(5)
    on_card = torch.randn(8, device="xpu")
    torch.manual_seed(5)
    assert torch.equal(on_card.cpu(), torch.randn(8))


def test_dropout_drops() -> None:
    source = torch.ones(4096, device="xpu", requires_grad=True)
    dropped = functional.dropout(source, 0.25)
    kept = dropped.detach().ne(0)
    assert 0.7 < kept.float().mean().item() < 0.8
    assert torch.equal(dropped.detach()[kept], torch.full_like(dropped.detach()[kept], 4 / 3))
    dropped.sum().backward()
    assert torch.equal(source.grad.ne(0), kept)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compilation(backend: str) -> None:
    def function(tensor: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(functional.silu(tensor @ tensor), (4,)) + 1

    tensor = torch.randn(4, 4, device="xpu")
    compiled = torch.compile(function, backend=backend)
    torch.testing.assert_close(compiled(tensor), function(tensor))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    layer, tokens = kind(4, 5, num_layers=2, batch_first=True), torch.randn(2, 3, 4)
    results, gradients = [], []
    for device in ("cpu", "xpu"):
        layer = layer.to(device)
        layer.zero_grad()
        leaf = tokens.to(device, copy=True).requires_grad_()
        result = layer(leaf)[0]
        result.square().sum().backward()
        results.append(result.detach().cpu())
        gradients.append(
            [tensor.grad.to("cpu", copy=True) for tensor in (leaf, *layer.parameters())]
        )
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_inference_mode() -> None:
    with torch.inference_mode():
        tensor = torch.ones(2, 2, device="xpu")
        tensor[0].add_(1)
        assert (tensor @ tensor).cpu().tolist() == [[6, 6], [3, 3]]
