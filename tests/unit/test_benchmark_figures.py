"""Benchmarks: medians, intervals, and what two files say about each other."""

import random

import pytest
from comfyui_ipex.benchmarks import compare, intervals, plots, report, words
from comfyui_ipex.benchmarks.record import Record
from comfyui_ipex.benchmarks.result import FAILED, MEASURED, CaseResult, Timing, merged


def result(case: str, *passes: list[float]) -> CaseResult:
    """A case that was measured in these passes."""
    made = [
        CaseResult(
            "tensor", case, "cpu", "fp32", "a case", "ours", MEASURED, seconds=Timing.of(times)
        )
        for times in passes
    ]
    whole = made[0]
    for other in made[1:]:
        whole = merged(whole, other)
    return whole


def record(*results: CaseResult) -> Record:
    """A record of these results."""
    return Record("ipex-benchmarks", quick=False, passes=1, results=list(results))


def measured(seed: int, drift: float, passes: int, speed: float = 1.0) -> CaseResult:
    """A case whose processes differ by `drift`, and whose samples differ far less."""
    draw = random.Random(seed)
    times = []
    for _ in range(passes):
        middle = draw.gauss(1.0, drift) / speed
        times.append([middle * draw.gauss(1.0, 0.001) for _ in range(10)])
    return result(f"case {seed % 1000}", *times)


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    draw = random.Random(1)
    held = 0
    for _ in range(1000):
        held += intervals.interval([draw.expovariate(1.0) for _ in range(15)]).around(0.6931)
    assert held >= 940


def test_too_few_samples_say_how_little_they_prove() -> None:
    found = intervals.interval([1.0, 1.01, 1.02])
    assert (found.low, found.high, found.confidence) == (1.0, 1.02, 0.75)
    assert not found.narrow
    assert intervals.interval([1.0] * 6).narrow
    with pytest.raises(ValueError, match="at least one"):
        intervals.interval([])


def test_one_sample_is_shown_as_one_sample() -> None:
    single = Timing.of([1.25])
    assert (words.spread(single), words.ratio(single)) == ("one sample", "1.250 (one sample)")
    assert words.ratio(Timing.of([1.0, 1.5])) == "1.250 (1.000 to 1.500)"


def test_the_warm_up_lasts_until_three_times_agree() -> None:
    assert not intervals.steady([1.0, 1.0])
    assert not intervals.steady([1.0, 1.0, 1.2])
    assert intervals.steady([3.0, 1.0, 1.02, 1.01])


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    [(0.95, 1, 12.7062), (0.95, 2, 4.3027), (0.95, 4, 2.7764), (0.999, 10, 4.5869)],
)
def test_students_quantiles_are_those_of_the_tables(
    confidence: float, freedom: int, quantile: float
) -> None:
    assert intervals.student(confidence, freedom) == pytest.approx(quantile, abs=1e-4)


def test_passes_together_are_as_uncertain_as_they_lie_apart() -> None:
    whole = result("case", [1.0] * 8, [1.2] * 8)
    assert whole.seconds is not None
    assert (whole.seconds.low, whole.seconds.high) == (1.0, 1.2)
    assert whole.seconds.passes == [1.0, 1.2]
    assert not whole.seconds.narrow
    assert whole.passes == 2


def test_a_pass_that_failed_is_told_beside_the_times_of_the_other() -> None:
    good = measured(1, 0.01, 1)
    bad = CaseResult("tensor", good.case, "cpu", "fp32", "", "", FAILED, "the driver went away")
    for whole in (merged(good, bad), merged(bad, good)):
        assert whole.seconds == good.seconds
        assert whole.why == "in another pass: failed: the driver went away"
    assert merged(bad, bad) == bad


def test_two_runs_of_one_program_are_never_called_faster_or_slower() -> None:
    for trial in range(20):
        sides = [
            record(*(measured(seed + 1000 * (2 * trial + side), 0.15, 3) for seed in range(60)))
            for side in (0, 1)
        ]
        verdicts = [change.verdict for change in compare.changes(*sides)]
        assert verdicts.count(compare.NOISE) >= 59, trial


def test_a_change_that_is_there_is_found() -> None:
    before = record(*(measured(seed, 0.005, 3) for seed in range(60)))
    after = record(*(measured(seed + 1000, 0.005, 3, speed=1.3) for seed in range(60)))
    assert {change.verdict for change in compare.changes(before, after)} == {compare.FASTER}
    assert {change.verdict for change in compare.changes(after, before)} == {compare.SLOWER}


def test_a_single_pass_proves_no_change() -> None:
    before, after = record(measured(1, 0.0, 1)), record(measured(1001, 0.0, 1, speed=2.0))
    (change,) = compare.changes(before, after)
    assert (change.verdict, change.why) == (compare.NOISE, compare.ONE_PASS)


def test_changes_below_the_floor_are_noise_however_sure_they_are() -> None:
    sure = intervals.Interval(1.04, 1.039, 1.041, 0.95)
    assert compare.verdict(sure, 3, 0.05)[0] == compare.NOISE
    assert compare.verdict(sure, 3, 0.03)[0] == compare.FASTER
    assert compare.verdict(intervals.Interval(0.9, 0.89, 0.91, 0.95), 3, 0.05)[0] == compare.SLOWER


def test_the_comparison_says_what_differed_and_how_large_the_noise_is() -> None:
    before, after = record(measured(1, 0.01, 3)), record(measured(1001, 0.01, 3))
    for one, torch in ((before, "2.7"), (after, "2.8")):
        one.complete = True
        one.add_conditions("tensor", {"torch": torch})
    text = compare.as_markdown(before, after)
    assert "- torch: 2.7 -> 2.8" in text
    assert "1 cases: 0 faster, 0 slower, 1 noise" in text
    assert "incomplete" not in text
    same = compare.as_markdown(before, before)
    assert "the noise of this machine" in same


def test_a_sweeps_plot_says_how_much_even_where_it_is_short() -> None:
    steps = [
        CaseResult("sd", f"batch {batch}", "cpu", "fp32", "", "", MEASURED, sweep="a step",
               batch=batch, seconds=Timing.of([0.5 + 0.1 * batch]), peak_bytes=10_000_000 * batch)
        for batch in (1, 2)
    ]  # fmt: skip
    svg = plots.sweeps("cpu", steps).svg
    assert svg.count("MiB") >= 2
    assert svg.count("<svg") == 1


def test_tables_have_no_empty_columns_and_long_remarks_are_folded_on_the_page() -> None:
    whole = record(measured(1, 0.01, 1))
    whole.results[0].counts["report"] = "x" * 300
    header, row = report.columns(whole)
    assert header == ["suite", "case", "dtype", "device", "time", "+-", "remark"]
    assert len(row) == len(header)
    assert report.page(whole).count("<details>") == 1
