"""The Benchmark node: a short run in a process that has other things to do."""

import sys

import pytest
import torch
from comfyui_ipex.benchmarks import engine
from comfyui_ipex.nodes.benchmark import IpexBenchmark
from comfyui_ipex.xpu_runtime import host


class Bar:
    """A host's progress bar."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def update_absolute(self, done: int, total: int) -> None:
        """Keep what is shown."""
        self.seen.append((done, total))


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> Bar:
    """The bar of a host that runs on the CPU; two small cases stand for all."""
    made = Bar()
    quick = engine.quick_cases()
    few = [one for one in quick if one[1].name.startswith(("allocate", "not an XPU"))]
    monkeypatch.setattr(engine, "quick_cases", lambda: few)
    monkeypatch.setattr(host, "progress_bar", lambda total: made)
    monkeypatch.setattr(host, "check_interrupted", lambda: None)
    monkeypatch.setattr(host, "empty_caches", lambda: None)
    monkeypatch.setattr(host, "primary_device", lambda: torch.device("cpu"))
    return made


def test_the_node_answers_with_conditions_and_a_table(bar: Bar) -> None:
    answer = IpexBenchmark().measure("auto", "auto")
    (text,) = answer["result"]
    assert answer["ui"]["text"] == [text]
    assert f"torch {torch.__version__}" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[1] for row in rows[2:]] == [
        "allocate 1 MiB",
        "not an XPU's a small call",
    ]
    assert bar.seen == [(0, 2), (1, 2), (2, 2)]


def test_the_node_measures_in_the_number_format_that_is_asked_for(bar: Bar) -> None:
    (text,) = IpexBenchmark().measure("cpu", "bf16")["result"]
    assert "| bf16 |" in text


def test_the_user_can_interrupt_between_two_cases(
    bar: Bar, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):  # noqa: N818 (as the host's is)
        pass

    def check() -> None:
        if bar.seen:
            raise Interrupted

    monkeypatch.setattr(host, "check_interrupted", check)
    with pytest.raises(Interrupted):
        IpexBenchmark().measure("auto", "auto")
    assert bar.seen == [(0, 2)]


def test_a_short_run_has_the_quick_cases_of_suites_that_need_torch_alone() -> None:
    cases = engine.quick_cases()
    assert {suite for suite, _ in cases} == {"tensor", "conv", "attention"}
    assert all(case.quick for _, case in cases)


def test_a_case_that_fails_or_runs_out_of_memory_is_a_line_and_not_the_end() -> None:
    from comfyui_ipex.benchmarks.case import Case, CaseSettings, Side, Trial

    def broken(settings: CaseSettings) -> Trial:
        raise TypeError(f"no such thing on {settings.device}")

    def too_large(settings: CaseSettings) -> Trial:
        return Trial(Side("it", lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("full"))))

    cases = [("tensor", Case("a", "", broken)), ("tensor", Case("b", "", too_large))]
    text = engine.measure_quick_cases(cases, torch.device("cpu"), (), lambda done: None)
    assert "TypeError: no such thing on cpu" in text
    assert "out of memory" in text


def test_loading_the_nodes_imports_no_suite() -> None:
    modules = [name for name in sys.modules if name.endswith("nodes.benchmark")]
    assert modules
    module = sys.modules[modules[0]]
    assert not hasattr(module, "engine")
