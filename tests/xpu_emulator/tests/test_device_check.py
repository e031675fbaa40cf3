"""Tensors on different devices meet, or must not: with torch's own errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("two_cards")

_SAME = "Expected all tensors to be on the same device"


@pytest.mark.parametrize("other", ["cpu", "xpu:1"])
@pytest.mark.parametrize(
    "operation",
    [
        torch.mm,
        torch.add,
        torch.maximum,
        lambda a, b: a.add_(b),
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.stack([a, b]),
        lambda a, b: functional.linear(a, b),
        lambda a, b: torch.where(a > 0, a, b),
        lambda a, b: torch.bmm(a[None], b[None]),
        lambda a, b: torch.addmm(a, a, b),
        lambda a, b: functional.layer_norm(a, (4,), b[0]),
        lambda a, b: functional.group_norm(a, 2, b[0]),
        lambda a, b: torch.equal(a, b),
        lambda a, b: functional.embedding(b.abs().long() % 4, a),
    ],
)
def test_a_mismatch_raises_what_torch_raises(
    operation: Callable[[torch.Tensor, torch.Tensor], object], other: str
) -> None:
    left, right = torch.randn(4, 4, device="xpu:0"), torch.randn(4, 4, device=other)
    with pytest.raises(RuntimeError, match=_SAME):
        operation(left, right)
    with pytest.raises(RuntimeError, match=_SAME):
        operation(right, left)


def test_the_message_names_the_argument() -> None:
    text = "got mat2 is on cpu, different from other tensors on xpu:0"
    with pytest.raises(RuntimeError, match=text):
        torch.mm(torch.ones(2, 2, device="xpu"), torch.ones(2, 2))


def test_convolution_has_messages_of_its_own() -> None:
    image, kernel = torch.randn(1, 2, 4, 4), torch.randn(2, 2, 3, 3)
    with pytest.raises(RuntimeError, match=_SAME):
        functional.conv2d(image.to("xpu"), kernel.to("xpu:1"))
    with pytest.raises(RuntimeError, match="the same"):
        functional.conv2d(image, kernel.to("xpu"))


def test_attention_has_a_message_of_its_own() -> None:
    query, key = torch.randn(1, 1, 4, 8, device="xpu:0"), torch.randn(1, 1, 4, 8)
    with pytest.raises(RuntimeError, match="query, key, and value to have the same device type"):
        functional.scaled_dot_product_attention(query, key, key)
    with pytest.raises(RuntimeError, match=_SAME):
        functional.scaled_dot_product_attention(
            query, query, query, attn_mask=torch.ones(4, 4).bool()
        )


@pytest.mark.parametrize(
    "operation",
    [
        lambda a: a + torch.tensor(2.0),
        lambda a: torch.tensor(2.0) * a,
        lambda a: torch.where(a > 0, a, torch.tensor(0.0)),
        lambda a: a[torch.tensor([0, 2])],
        lambda a: a.masked_fill(a > 0, torch.tensor(1.0)),
        lambda a: a.pow(torch.tensor(2.0)),
    ],
)
def test_host_scalars_and_indices_are_welcome(
    operation: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    tensor = torch.randn(4, 4)
    result = operation(tensor.to("xpu"))
    assert result.is_xpu
    torch.testing.assert_close(result.cpu(), operation(tensor))


def test_a_host_scalar_is_not_welcome_everywhere() -> None:
    with pytest.raises(RuntimeError, match=_SAME):
        torch.dot(torch.ones(1, device="xpu"), torch.ones(1))
    with pytest.raises(RuntimeError, match=_SAME):
        torch.cat([torch.ones(1, device="xpu"), torch.ones(1)])


def test_host_values_can_be_assigned() -> None:
    tensor = torch.zeros(3, device="xpu")
    tensor[1] = torch.tensor(5.0)
    tensor[torch.tensor([0, 2])] = torch.tensor([1.0, 2.0], device="xpu")
    assert tensor.cpu().tolist() == [1, 5, 2]


def test_copies_cross_devices() -> None:
    cpu = torch.arange(6.0).view(2, 3)
    for start, end in (("cpu", "xpu:0"), ("xpu:0", "cpu"), ("xpu:0", "xpu:1")):
        moved = cpu.to(start).to(end)
        assert moved.device == torch.device(end)
        assert torch.equal(moved.cpu(), cpu)
    target = torch.zeros(2, 3, dtype=torch.int32, device="xpu:1")
    target.t().copy_(cpu.t().to("xpu:0"))
    assert torch.equal(target.cpu(), cpu.int())
