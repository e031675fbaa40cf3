"""Types that a card has, lacks, or computes in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional
from xpu_emulator import DeviceSpec
from xpu_emulator.profiles import A770

if TYPE_CHECKING:
    from xpu_emulator import EmulatedXpu

_NO_FP64 = "Required aspect fp64 is not supported on the device"


@pytest.mark.parametrize(
    "operation",
    [
        lambda d: torch.zeros(2, dtype=torch.float64, device=d),
        lambda d: torch.empty(2, dtype=torch.float64, device=d),
        lambda d: torch.empty(2, dtype=torch.complex128, device=d),
        lambda d: torch.ones(2, device=d).double(),
        lambda d: torch.ones(2, dtype=torch.float64).to(d),
        lambda d: torch.arange(3, dtype=torch.float64, device=d),
        lambda d: torch.tensor([1.0], dtype=torch.float64, device=d),
        lambda d: torch.ones(2, device=d).sum(dtype=torch.float64),
        lambda d: torch.float_power(torch.ones(2, device=d), 2),
    ],
)
def test_a_card_without_fp64_refuses_it(
    two_cards: EmulatedXpu, operation: Callable[[str], torch.Tensor]
) -> None:
    with pytest.raises(RuntimeError, match=_NO_FP64):
        operation("xpu:0")
    assert operation("xpu:1").dtype in (torch.float64, torch.complex128)


def test_python_numbers_do_not_count_as_float64(two_cards: EmulatedXpu) -> None:
    tensor = torch.ones(2, device="xpu:0")
    assert (tensor * 2.5 + torch.tensor(1.0, dtype=torch.float64)).dtype == torch.float32


def test_storage_without_arithmetic(emulated_xpu: Callable[..., EmulatedXpu]) -> None:
    emulated_xpu([DeviceSpec(A770, fp64_storage=True)])
    stored = torch.ones(2, dtype=torch.float64).to("xpu")
    assert stored.cpu().tolist() == [1, 1]
    for operation in (lambda: stored + 1, lambda: stored.float(), lambda: stored.sum()):
        with pytest.raises(RuntimeError, match=_NO_FP64):
            operation()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits(two_cards: EmulatedXpu, dtype: torch.dtype) -> None:
    left, right = torch.randn(8, 16), torch.randn(16, 8)
    image, kernel = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    for operation, arguments in (
        (torch.mm, (left, right)),
        (functional.conv2d, (image, kernel)),
        (functional.conv_transpose2d, (image, kernel)),
        (functional.silu, (left,)),
        (functional.softmax, (left, -1)),
        (functional.scaled_dot_product_attention, (image, image, image)),
        (functional.interpolate, (image, None, 2.0, "bicubic")),
        (torch.linalg.vector_norm, (left,)),
        (torch.cumsum, (left, 0)),
    ):
        narrow = [a.to(dtype) if isinstance(a, torch.Tensor) else a for a in arguments]
        wide = [a.float() if isinstance(a, torch.Tensor) else a for a in narrow]
        card = [a.to("xpu") if isinstance(a, torch.Tensor) else a for a in narrow]
        result = operation(*card)
        assert result.dtype == dtype
        torch.testing.assert_close(
            result.cpu().float(), operation(*wide), rtol=2e-2, atol=2e-2, msg=str(operation)
        )


def test_an_operator_that_the_cpu_lacks_in_half(two_cards: EmulatedXpu) -> None:
    volume = torch.randn(1, 1, 4, 4, 4).half()
    with pytest.raises(RuntimeError, match="not implemented for 'Half'"):
        functional.avg_pool3d(volume, 2)
    for _ in range(2):  # found out the first time, remembered the second
        result = functional.avg_pool3d(volume.to("xpu"), 2)
        assert torch.equal(result.cpu(), functional.avg_pool3d(volume.float(), 2).half())


def test_eight_bits_are_stored_and_converted(two_cards: EmulatedXpu) -> None:
    weight = torch.randn(8, 8)
    packed = weight.to("xpu").to(torch.float8_e4m3fn)
    assert packed.element_size() == 1
    assert torch.equal(packed.to(torch.float32).cpu(), weight.to(torch.float8_e4m3fn).float())


def test_mixed_types_are_still_an_error(two_cards: EmulatedXpu) -> None:
    with pytest.raises(RuntimeError, match="dtype"):
        torch.mm(torch.ones(2, 2, device="xpu").half(), torch.ones(2, 2, device="xpu"))
