"""What IPEX Optimize would try on a device, what it leaves out and why, and what it keeps."""

import gc
import uuid
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime import report
from comfyui_ipex.xpu_runtime.optimizing import OptimizeSettings, state, trial
from comfyui_ipex.xpu_runtime.optimizing.inputs import flat, rebuilt, without_patches
from comfyui_ipex.xpu_runtime.optimizing.plan import Facts, plan
from comfyui_ipex.xpu_runtime.optimizing.settings import FOUND, StepPlan, Variant
from comfyui_ipex.xpu_runtime.optimizing.trial import Measurement, Tried

CUDA = Facts("cuda", 50, 0, residual_blocks=True)
XPU = Facts("xpu", 50, 0)
CPU = Facts("cpu", 50, 0, no_graphs="a CPU has none")


def names(planned: StepPlan) -> list[str]:
    return [one.name for one in planned.variants]


def reasons(planned: StepPlan) -> dict[str, str]:
    return {one.what: one.why for one in planned.skipped}


@pytest.mark.parametrize(
    ("facts", "wishes", "tried"),
    [
        (
            CUDA,
            {},
            [f"channels_last + {way}graph" for way in ("blocks + ", "all blocks + ", "")]
            + ["graph"],
        ),
        (CUDA, {"channels_last": "off"}, ["blocks + graph", "all blocks + graph", "graph"]),
        (CUDA, {"compile": "off", "mode": "default"}, ["channels_last"]),
        (CUDA, {"compile": "full"}, ["channels_last + full + graph"]),
        (CUDA, {"verify": False}, ["graph"]),
        (CUDA, {"verify": False, "channels_last": "on", "mode": "default"}, ["channels_last"]),
        (XPU, {}, ["channels_last + blocks", "channels_last"]),
        (XPU, {"mode": "reduce-overhead", "compile": "off"}, ["channels_last + graph", "graph"]),
        (CPU, {}, ["channels_last"]),
        (CPU, {"compile": "blocks", "channels_last": "off"}, ["blocks"]),
        (CPU, {"channels_last": "off"}, []),
        (Facts("cuda", 0, 0), {}, ["blocks + graph", "graph"]),
    ],
)
def test_what_is_tried_depends_on_the_device_and_the_wishes(
    facts: Facts, wishes: dict[str, Any], tried: list[str]
) -> None:
    assert names(plan(OptimizeSettings(**wishes), facts)) == tried


def test_everything_that_is_left_out_has_a_reason() -> None:
    facts = Facts("cpu", 0, 0, no_compiler="no compiler", no_graphs="none", no_ipex="not here")
    wishes = OptimizeSettings(
        backend="ipex", compile="blocks", mode="reduce-overhead", channels_last="on"
    )
    planned = plan(wishes, facts)
    assert planned.variants == ()
    assert reasons(planned) == {
        "channels_last": "the network has no 2-d convolution",
        "compile": "no compiler",
        "graph": "none",
        "fold": "the network has no BatchNorm that could be folded",
        "ipex": "not here",
    }


def test_ipex_is_not_used_for_models_that_are_patched_and_says_why() -> None:
    assert "LoRA" in reasons(plan(OptimizeSettings(backend="ipex"), CPU))["ipex"]


def test_batch_norm_of_a_patched_model_is_not_folded() -> None:
    assert "LoRA" in reasons(plan(OptimizeSettings(), Facts("cpu", 5, 3)))["fold"]


FAST = Variant(channels_last=True)
FASTER = Variant(graph=True)


@pytest.mark.parametrize(
    ("tried", "kept"),
    [
        ([Tried(FAST, 0.5), Tried(FASTER, 0.4)], FASTER),
        ([Tried(FAST, 0.5), Tried(FASTER, 0.4, error=0.02)], FAST),
        ([Tried(FAST, 0.5), Tried(FASTER, 0.4, error=float("inf"))], FAST),
        ([Tried(FAST, 0.5), Tried(FASTER, 0.0, problem="broke")], FAST),
        ([Tried(FAST, 0.99)], FOUND),
        ([Tried(FAST, 1.5)], FOUND),
        ([], FOUND),
    ],
)
def test_the_fastest_correct_way_is_kept_and_none_that_is_not_faster(
    tried: list[Tried], kept: Variant
) -> None:
    assert trial.choose_fastest(1.0, tried, torch.float16) == kept


def test_the_tolerance_depends_on_the_dtype() -> None:
    off = [Tried(FAST, 0.5, error=0.02)]
    assert trial.choose_fastest(1.0, off, torch.float32) == FOUND
    assert trial.choose_fastest(1.0, off, torch.float16) == FOUND
    assert trial.choose_fastest(1.0, off, torch.bfloat16) == FAST


def test_a_result_that_is_not_finite_or_has_another_shape_is_never_correct() -> None:
    good = torch.ones(4)
    assert trial.error_of(good * 1.01, good) == pytest.approx(0.01, rel=1e-3)
    assert trial.error_of(torch.full((4,), torch.nan), good) == float("inf")
    assert trial.error_of(torch.ones(5), good) == float("inf")


def test_an_outcome_says_what_was_measured_and_why_something_was_dropped() -> None:
    tried = (
        Tried(FASTER, 0.01, 0.001, 2.0),
        Tried(FAST, 0.03, 0.0),
        Tried(Variant(True), 0.015, 0.3),
        Tried(Variant(True, "blocks"), 1.0, problem="RuntimeError: no compiler"),
    )
    outcome = Measurement((2, 4, 64, 64), torch.float16, 0.02, tried, FASTER)
    text = "\n".join(outcome.lines)
    assert "Input 2x4x64x64, float16: 20.0 ms a step as found; kept: graph." in text
    assert "graph: 10.0 ms (2.00x), error 1.0e-03, ready after 2.0 s" in text
    assert "30.0 ms (0.67x), error 0.0e+00, ready after 0.0 s: not used: not faster" in text
    assert "not used: differs by more than 1e-02" in text
    assert "channels_last + blocks: not used: RuntimeError: no compiler" in text


def test_an_outcome_that_was_not_measured_has_no_figure() -> None:
    broke = Tried(FAST, float("inf"), problem="RuntimeError: no compiler")
    outcome = Measurement((2, 4, 64, 64), torch.float16, 0.0, (broke,), FOUND)
    assert outcome.lines[0] == "Input 2x4x64x64, float16: not measured; kept: as found."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no such layout\nmore", "RuntimeError: no such layout"),
        ("backend='inductor' raised:\n\nno compiler\n", "backend='inductor' raised: no compiler"),
        ("", "RuntimeError: no text"),
        ("x" * 900, "RuntimeError: " + "x" * 200),
    ],
)
def test_a_problem_is_told_in_one_line_that_has_the_cause(text: str, said: str) -> None:
    assert trial.problem_of(RuntimeError(text)).endswith(said)
    assert "\n" not in trial.problem_of(RuntimeError(text))


def inputs(**options: Any) -> Any:
    options.setdefault("cond_or_uncond", [1, 0])
    x = torch.randn(2, 4, 8, 8)
    return (x, torch.rand(2) + 100), {"transformer_options": options, "c_crossattn": x[0, 0]}


def test_inputs_with_other_numbers_have_the_same_key() -> None:
    meta = {"device": "meta"}
    steps = [torch.empty(2, **meta), torch.empty(2, **meta)]
    one, other = (flat(({"sigmas": step}, torch.empty(2, 3, **meta))) for step in steps)
    assert one.key == other.key
    assert len(one.tensors) == 2


def test_inputs_that_decide_how_a_step_runs_are_part_of_the_key() -> None:
    meta = torch.empty(2, 3, device="meta")
    keys = [
        flat((meta, {"transformer_options": {"cond_or_uncond": [1, 0]}})).key,
        flat((meta, {"transformer_options": {"cond_or_uncond": [0]}})).key,
        flat((torch.empty(2, 4, device="meta"), {"transformer_options": {}})).key,
        flat((meta.half(), {"transformer_options": {}})).key,
        flat((meta.t(), {"transformer_options": {}})).key,
        flat((meta, {"transformer_options": {}, "frames": 3})).key,
        flat((meta, {"transformer_options": {}, "frames": 4})).key,
        # Numbers on the CPU may be looked at by Python code.
        flat((meta, torch.tensor([True]))).key,
        flat((meta, torch.tensor([False]))).key,
    ]
    assert len(set(keys)) == len(keys)


def test_what_changes_with_each_prompt_or_step_is_not_part_of_the_key() -> None:
    x = torch.empty(2, device="meta")
    keys = {
        flat((x, {"transformer_options": {"uuids": [uuid.uuid4()], "block": ("input", n)}})).key
        for n in range(3)
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"patches": {"attn1_patch": [print]}},
        {"patches_replace": {"attn2": {("input", 1): print}}},
        {"optimized_attention_override": print},
        {"something": object()},
    ],
)
def test_a_step_with_code_of_other_nodes_is_odd(options: dict[str, Any]) -> None:
    assert flat(inputs(**options)).odd
    assert not flat(inputs(patches={}, patches_replace={})).odd


def test_code_of_other_nodes_is_seen_by_compiled_blocks() -> None:
    assert without_patches({"patches": {"attn1_patch": []}, "uuids": []})
    assert not without_patches({"patches": {"attn1_patch": [print]}})
    assert not without_patches({"optimized_attention_override": print})


def test_rebuilt_inputs_have_containers_of_their_own_and_take_other_tensors() -> None:
    control = {"input": [torch.zeros(1), None], "output": [torch.zeros(2)]}
    given = ((torch.zeros(3),), {"control": control, "transformer_options": {}})
    again = rebuilt(given)
    again[1]["control"]["input"].pop()
    again[1]["transformer_options"]["block"] = 1
    assert len(control["input"]) == 2
    assert given[1]["transformer_options"] == {}
    others = [one + 5 for one in flat(given).tensors]
    taken = flat(rebuilt(given, iter(others))).tensors
    assert all(one is other for one, other in zip(taken, others, strict=True))


def test_the_report_of_this_process_tells_what_was_measured() -> None:
    network = torch.nn.Linear(1, 1)
    tried = (Tried(FASTER, 0.01, 0.001, 2.0),)
    measured = Measurement((2, 4, 96, 64), torch.float16, 0.02, tried, FASTER)
    state.state_of(network).outcomes["one"] = measured
    assert set(measured.lines) <= set(report._measured())
    del network
    gc.collect()
    assert not set(measured.lines) & set(report._measured())
