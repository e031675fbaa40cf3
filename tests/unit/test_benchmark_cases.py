"""Benchmarks: what becomes of one case, and where a sweep over batches ends."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from comfyui_ipex.benchmarks import engine, measuring, words
from comfyui_ipex.benchmarks.case import Case, CaseSettings, Side, Trial
from comfyui_ipex.benchmarks.meter import Meter, Pace
from comfyui_ipex.benchmarks.peaks import Peaks
from comfyui_ipex.benchmarks.result import (
    FAILED,
    MEASURED,
    OUT_OF_MEMORY,
    REFUSED,
    CaseResult,
    Timing,
)
from comfyui_ipex.launcher.folders import child_environment
from conftest import REPOSITORY

CPU = torch.device("cpu")

BRIEF = Pace(round_s=0.0001, least_samples=1, limit_s=0.001, warm_s=0.0)


def measured(trial: Trial) -> CaseResult:
    """The result of a case on the CPU, measured in next to no time."""
    meter = Meter(CPU, BRIEF)
    case = Case("a case", "", lambda place: trial)
    return engine.measure_case(
        "tensor", case, CaseSettings(CPU, "fp32"), meter, Peaks(meter, "", quick=True)
    )


def broken(*_: Any) -> Any:
    """What fails."""
    raise RuntimeError("the reference does not fit")


def test_times_stand_where_the_reference_or_a_figure_fails() -> None:
    found = measured(Trial(Side("it", lambda: torch.ones(1)), expected=broken, facts=broken))
    assert found.status == MEASURED
    assert found.seconds is not None
    assert found.error is None
    lacks = "RuntimeError: the reference does not fit"
    assert found.why == f"no error: {lacks}; no figures: {lacks}"


def test_a_copy_across_the_bus_has_a_rate_and_no_share_of_the_memorys_limit() -> None:
    found = measured(Trial(Side("it", lambda: torch.ones(1)), crossed=1e6))
    (rate,) = found.rates
    assert found.seconds is not None
    assert rate.value == pytest.approx(1e6 / found.seconds.median, rel=1e-4)
    assert (rate.unit, rate.peak, rate.share) == ("B/s", None, None)
    shown = dict(zip(words.HEADER, words.cells(found), strict=True))
    assert shown["rate"].endswith("B/s")
    assert shown["of peak"] == ""


def test_the_share_of_the_limit_is_the_rate_over_what_was_measured_here() -> None:
    a = torch.ones(64, 64)
    found = measured(Trial(Side("it", lambda: a @ a), flops=2.0 * 64**3, moved=3.0 * a.nbytes))
    for rate in found.rates:
        assert "measured here" in rate.peak_source
        assert rate.peak is not None
        assert rate.share == pytest.approx(rate.value / rate.peak, rel=1e-4)


@pytest.mark.parametrize(
    ("status", "seconds", "over"),
    [
        (MEASURED, 0.4, False),
        (MEASURED, 0.6, True),
        (OUT_OF_MEMORY, None, True),
        (FAILED, None, True),
        (REFUSED, None, False),
    ],
)
def test_a_sweep_ends_where_memory_or_time_does(
    status: str, seconds: float | None, over: bool
) -> None:
    timing = None if seconds is None else Timing.of([seconds])
    result = CaseResult("sd", "a step", "cpu", "fp32", "", "", status, seconds=timing)
    assert measuring.sweep_is_over(result, quick=True) is over


def test_after_a_case_that_killed_its_process_the_rest_is_done_but_for_its_sweep() -> None:
    cases = [
        Case("before", "", broken),
        *(Case(f"batch {n}", "", broken, sweep="it", batch=n) for n in (1, 2, 4)),
        Case("rest", "", broken),
    ]
    todo = [(case, dtype) for case in cases for dtype in ("fp32", "fp16")]
    over: set[tuple[str, str]] = set()
    left = measuring.remaining(todo, ("batch 2", "fp32"), over)
    names = [(case.name, dtype) for case, dtype in left if (case.sweep, dtype) not in over]
    assert names == [("batch 2", "fp16"), ("batch 4", "fp16"), ("rest", "fp32"), ("rest", "fp16")]
    assert measuring.remaining(todo, None, set()) == todo


SWEEP = """
import functools, json, sys, types
package = types.ModuleType("comfyui_ipex")
package.__path__ = [sys.argv[1]]
sys.modules["comfyui_ipex"] = package
import torch
from comfyui_ipex.benchmarks import measuring, table
from comfyui_ipex.benchmarks.case import Case, Side, Trial
def make(batch, place):
    size, kind = batch << 24, torch.uint8
    return Trial(Side("it", lambda: torch.empty(size, dtype=kind, device=place.device)))
def cases():
    for batch in (1 << power for power in range(12)):
        yield Case(f"batch {batch}", "", functools.partial(make, batch), quick=True,
                   sweep="it", batch=batch)
    yield Case("after it", "", functools.partial(make, 1), quick=True)
table.cases_of = lambda row: list(cases())
request = measuring.BenchRequest("tensor", "xpu:0", (), (), True, None)
measuring.measure(request, lambda message: print(json.dumps(message)))
"""


def test_batches_double_until_a_cards_memory_ends_and_the_suite_goes_on() -> None:
    card = ["--device", "a770", "--memory", "96MiB", "--max-alloc", "96MiB"]
    environment = {**child_environment(), "PYTHONPATH": str(REPOSITORY / "tests")}
    done = subprocess.run(
        [sys.executable, "-m", "xpu_emulator", *card, "--", "-c", SWEEP, str(REPOSITORY)],
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    results = [message["result"] for message in messages if "result" in message]
    assert [(one["case"], one["status"]) for one in results] == [
        ("batch 1", REFUSED),
        ("batch 2", REFUSED),
        ("batch 4", REFUSED),
        ("batch 8", OUT_OF_MEMORY),
        ("after it", REFUSED),
    ]
    assert [one["peak_bytes"] for one in results[:3]] == [1 << 24, 1 << 25, 1 << 26]
    assert messages[-1] == {"end": True}
