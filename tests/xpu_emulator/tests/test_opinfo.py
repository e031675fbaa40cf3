"""Every operator that torch tests, against the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
from xpu_emulator import EmulatedXpu
from xpu_emulator.tests import opinfo


def test_operators_agree_with_the_cpu(
    emulated_xpu: Callable[..., EmulatedXpu],
    emulator_figures: list[str],
    record_property: Callable[[str, object], None],
) -> None:
    emulated_xpu(["max_1100"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = opinfo.compare_with_cpu()
    emulator_figures.append(f"OpInfo, float32, xpu:0 against cpu: {figures}")
    record_property("opinfo", str(figures))
    assert figures.operators > 600 and figures.samples > 3000
    assert figures.share >= 0.99, figures.failures


def test_the_exclusions_are_all_needed(emulated_xpu: Callable[..., EmulatedXpu]) -> None:
    emulated_xpu(["max_1100"])
    names = {opinfo.name_of(op) for op in opinfo.op_db}
    assert names >= opinfo.EXCLUDED.keys()
    for op in opinfo.op_db:
        if opinfo.name_of(op) in opinfo.EXCLUDED:
            with pytest.raises(opinfo.OPERATOR_ERRORS):
                opinfo.compare_operator(op, opinfo.Figures(), 8, "xpu:0")


def test_gradients_agree_with_the_cpu(
    emulated_xpu: Callable[..., EmulatedXpu],
    emulator_figures: list[str],
    record_property: Callable[[str, object], None],
) -> None:
    emulated_xpu(["max_1100"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = opinfo.compare_gradients_with_cpu()
    emulator_figures.append(f"OpInfo, gradients, column-major inputs: {figures}")
    record_property("opinfo_gradients", str(figures))
    assert figures.operators > 400 and figures.samples > 1000
    assert figures.share >= 0.99, figures.failures
