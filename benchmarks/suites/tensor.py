"""Matrix products, elementwise work, reductions, copies by direction, allocation."""

import functools
from collections.abc import Callable

import torch

from ..case import NO_DTYPE, Case, CaseSettings, Side, Trial
from .tensors import normal

MIB = 1 << 20
_PRODUCT_DTYPES = ("fp32", "fp16", "bf16")


def cases() -> list[Case]:
    return [*_products(), *_streams(), *_copies(), *_allocations()]


def _products() -> list[Case]:
    sizes = {512: True, 1024: False, 2048: False, 4096: False, 8192: False}
    return [
        Case(
            f"matmul {side}",
            f"the product of two {side}x{side} matrices",
            functools.partial(_product, side),
            _PRODUCT_DTYPES,
            quick=quick,
            gpu_only=side > 2048,
        )
        for side, quick in sizes.items()
    ]


def _product(side: int, settings: CaseSettings) -> Trial:
    a, b = normal(settings, side, side), normal(settings, side, side, seed=2)
    # Four rows tell as much of the rounding as all, and fp64 on a CPU is slow.
    return Trial(
        Side("torch.matmul", lambda: a @ b),
        flops=2.0 * side**3,
        moved=3.0 * a.nbytes,
        outcome=lambda: (a @ b)[:4],
        expected=lambda: a[:4].cpu().double() @ b.cpu().double(),
    )


_OPERATIONS: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor], float]] = {
    "add": ("a + a", lambda a: a + a, 2),
    "gelu": ("GELU", torch.nn.functional.gelu, 2),
    "sum": ("the sum of all", lambda a: a.sum(dtype=torch.float32), 1),
    "softmax": ("softmax over rows of 4096", lambda a: a.view(-1, 4096).softmax(-1), 2),
    "layer norm": (
        "layer norm over rows of 1024",
        lambda a: torch.nn.functional.layer_norm(a.view(-1, 1024), (1024,)),
        2,
    ),
}
"""What it is, the call, and how often it has to go through its numbers at least."""


def _streams() -> list[Case]:
    return [
        Case(
            f"{name} {millions} M",
            f"{words} of {millions} million numbers",
            functools.partial(_stream, name, millions << 20),
            quick=millions == 1 and name in ("add", "sum"),
            gpu_only=millions > 16,
        )
        for name, (words, _, _) in _OPERATIONS.items()
        for millions in ((1, 16, 128) if name in ("add", "sum") else (16,))
    ]


def _stream(name: str, count: int, settings: CaseSettings) -> Trial:
    _, call, passes = _OPERATIONS[name]
    numbers = normal(settings, count)
    return Trial(
        Side(name, lambda: call(numbers)),
        moved=passes * numbers.nbytes,
        expected=lambda: call(numbers.cpu().double()),
    )


def _copies() -> list[Case]:
    ways = {
        "to the device": _to_device,
        "from the device": _from_device,
        "to the device pinned": functools.partial(_to_device, pinned=True),
        "from the device pinned": functools.partial(_from_device, pinned=True),
        "on the device": _on_device,
    }
    return [
        Case(
            f"copy {name} {size} MiB",
            f"a copy of {size} MiB {name}",
            functools.partial(make, size * MIB // 4),
            NO_DTYPE,
            quick=name == "on the device",
            gpu_only=name != "on the device",
        )
        for name, make in ways.items()
        for size in (16, 256)
        if size == 256 or name != "on the device"
    ]


def _host_side(count: int, pinned: bool) -> torch.Tensor:
    return torch.ones(count).pin_memory() if pinned else torch.ones(count)


def _to_device(count: int, settings: CaseSettings, pinned: bool = False) -> Trial:
    source, target = _host_side(count, pinned), torch.empty(count, device=settings.device)
    return _copy(source, target, 1)


def _from_device(count: int, settings: CaseSettings, pinned: bool = False) -> Trial:
    source, target = torch.ones(count, device=settings.device), _host_side(count, pinned)
    return _copy(source, target, 1)


def _on_device(count: int, settings: CaseSettings) -> Trial:
    source = torch.ones(count, device=settings.device)
    return _copy(source, torch.empty_like(source), 2)


def _copy(source: torch.Tensor, target: torch.Tensor, passes: int) -> Trial:
    # Over the bus, the share of the memory's limit would say nothing.
    both_here = source.device == target.device
    size = source.nbytes
    return Trial(
        Side("Tensor.copy_", lambda: target.copy_(source)),
        moved=passes * size if both_here else None,
        crossed=None if both_here else passes * size,
        expected=lambda: source.cpu(),
    )


def _allocations() -> list[Case]:
    return [
        Case(
            f"allocate {size} MiB",
            f"a tensor of {size} MiB made and dropped, from the allocator's cache if it has one",
            functools.partial(_allocation, size * MIB // 4),
            NO_DTYPE,
            quick=size == 1,
        )
        for size in (1, 256)
    ]


def _allocation(count: int, settings: CaseSettings) -> Trial:
    return Trial(Side("torch.empty", lambda: torch.empty(count, device=settings.device).data_ptr()))
