"""What a test can count, refuse and rearrange."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import xpu_emulator
from xpu_emulator import EmulatedXpu

Make = Callable[..., EmulatedXpu]


def test_kernels_are_counted_and_views_are_not(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a770"])
    tensor = torch.ones(4, 4, device="xpu")
    emulated.reset_counters()
    tensor.t()[1:].view(-1) if tensor.t()[1:].is_contiguous() else tensor.unfold(0, 2, 1)
    assert emulated.devices[0].counters()["kernels"] == 0
    tensor.add_(1)
    torch.mm(tensor, tensor)
    assert emulated.devices[0].counters()["kernels"] == 2
    calls = emulated.devices[0].op_calls()
    assert calls["aten::mm.out"] == 1 and sum(calls.values()) == 3  # and one unfold


def test_copies_are_counted_by_direction(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a770", "a770"])
    tensor = torch.ones(256).to("xpu:0")
    tensor.to("cpu", non_blocking=True)
    tensor.clone()
    tensor.to("xpu:1")
    torch.xpu.synchronize(0)
    first, second = (device.counters() for device in emulated.devices)
    one = {"count": 1, "bytes": 1024, "non_blocking": 0}
    assert first["h2d"] == first["d2d"] == one
    assert first["d2h"] == {**one, "non_blocking": 1}
    assert first["peer"]["count"] == 0 and second["peer"] == one
    assert second["h2d"]["count"] == 0
    assert first["synchronizes"] == 1


def test_reads_by_the_host_are_counted(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a770"])
    tensor = torch.ones(2, device="xpu")
    tensor.sum().item()
    float(tensor[0])
    bool(tensor[1] > 0)
    torch.equal(tensor, tensor)
    assert emulated.devices[0].counters()["items"] == 4


def test_operators_can_be_denied(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a770"], denied_ops=("aten::sort",))
    emulated.deny("aten::add", "aten::scaled_dot_product_attention")
    tensor = torch.randn(1, 1, 4, 4, device="xpu")
    for refused in (
        lambda: tensor.sort(),
        lambda: tensor + 1,
        lambda: tensor.add_(tensor),
        lambda: torch.nn.functional.scaled_dot_product_attention(tensor, tensor, tensor),
    ):
        with pytest.raises(NotImplementedError, match=r"Could not run 'aten::.* 'XPU' backend"):
            refused()
    assert (tensor * 2).is_xpu
    emulated.set_options(denied_ops=())
    assert (tensor + 1).is_xpu


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("aten::add.Tensor", "names an overload"),
        ("aten::nonsense", "no operator"),
        ("sort", "no operator"),
        ("aten::conv2d", "never reaches a kernel"),
        ("aten::empty", "never reaches a kernel"),
    ],
)
def test_what_cannot_be_denied_is_an_error(emulated_xpu: Make, name: str, reason: str) -> None:
    emulated = emulated_xpu(["a770"])
    with pytest.raises(ValueError, match=reason):
        emulated.deny(name)


def test_an_operator_without_any_kernel_is_missing(emulated_xpu: Make) -> None:
    emulated_xpu(["a770"])
    with pytest.raises(NotImplementedError, match="'XPU' backend"):
        image = torch.ones(1, 1, 2, 2, device="xpu")
        torch.ops.aten.cudnn_grid_sampler(image, torch.zeros(1, 2, 2, 2, device="xpu"))


def test_cards_can_be_exchanged(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a770", "a770", "a770"])
    kept = torch.ones(256, device="xpu:2")
    emulated.devices[0].lose()
    emulated.configure(["b580"])
    assert torch.xpu.device_count() == 1 and torch.xpu.current_device() == 0
    assert torch.xpu.get_device_properties(0).has_fp64
    assert torch.ones(2, device="xpu").sum().item() == 2
    del kept  # its card is gone; freeing it must not hurt
    emulated.configure([])
    assert not torch.xpu.is_available()
    with pytest.raises(RuntimeError, match="No XPU devices are available"):
        torch.empty(1, device="xpu")


def test_fixed_properties_do_not_change_under_a_program(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a770"])
    with pytest.raises(ValueError, match="total_memory cannot change"):
        emulated.devices[0].change(total_memory=1)


def test_four_cards_and_no_more(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a380"] * 4)
    weight = torch.ones(2, device="xpu:3", requires_grad=True)
    weight.sum().backward()
    assert weight.grad is not None and weight.grad.device.index == 3
    with pytest.raises(ValueError, match="At most 4"):
        emulated.configure(["a380"] * 5)


def test_the_report_is_json(emulated_xpu: Make, tmp_path: Path) -> None:
    emulated = emulated_xpu(["a380"], attention="math")
    torch.ones(2, device="xpu").sum()
    emulated.write_report(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["options"]["attention"] == "math"
    (device,) = report["devices"]
    assert device["properties"]["name"] == "Intel(R) Arc(TM) A380 Graphics"
    assert device["counters"]["kernels"] == 2
    assert device["op_calls"]["aten::sum.IntList_out"] == 1
    assert device["memory"]["allocated_bytes"]["all"]["peak"] >= 1024


def test_installing_twice_is_an_error(emulated_xpu: Make) -> None:
    emulated = emulated_xpu(["a770"])
    with pytest.raises(RuntimeError, match=r"current\(\)\.configure"):
        xpu_emulator.install(["a770"])
    assert xpu_emulator.current() is emulated
