"""Preprocessors on emulated cards: memory that runs out, missing operators, late copies."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from comfyui_ipex.inference import missing_ops, transfer
from comfyui_ipex.inference.budget import Limits
from comfyui_ipex.inference.dry_run import meta_copy
from comfyui_ipex.inference.stream import Ui
from comfyui_ipex.inference.weight_files import casting
from comfyui_ipex.nodes.preprocess.method import Batch, Hint, Method
from comfyui_ipex.nodes.preprocess.picture_task import PictureTask
from comfyui_ipex.nodes.preprocess.preprocessor import chunk_of, dry_costs
from streams import CountingBudget, hinted
from torch import nn
from toy_preprocessor import CPU, EDGES, Edges, call_of, one_by_one, pictures, run_edges
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

MIB = 1 << 20
Make = Callable[..., EmulatedXpu]
XPU = torch.device("xpu:0")


@pytest.mark.parametrize("copies", [{}, {"async_copies": True, "poison": True}], ids=["", "late"])
def test_a_card_without_fp64_gives_the_cpus_pictures(emulated_xpu: Make, copies: Any) -> None:
    images = pictures(5)
    wanted = one_by_one(images, resolution=50)
    emulated = emulated_xpu([DeviceSpec(A770)], **copies)
    call = call_of(Edges().to(XPU), XPU, (60, 60), resolution=50)
    emulated.reset_counters()
    with torch.inference_mode():
        found = hinted(PictureTask(call, 2, images)).pictures
    assert torch.allclose(found, wanted, atol=1e-6)
    counters = emulated.devices[0].counters()
    assert counters["peer"]["count"] == 0
    assert counters["d2h"]["bytes"] <= 5 * 50 * 50 * 4, "more than one gray plane came back"


@pytest.mark.parametrize("nth", [1, 5, 8])
@pytest.mark.parametrize("error", ["torch", "out_of_device_memory", "out_of_resources"])
def test_when_memory_runs_out_finished_frames_are_kept_and_chunks_are_halved(
    emulated_xpu: Make, nth: int, error: str
) -> None:
    images = pictures(12)
    wanted = one_by_one(images)
    emulated = emulated_xpu([DeviceSpec(A770)])
    emulated.devices[0].change(oom=error)
    network = Edges().to(XPU)
    finished: list[int] = []
    budget = CountingBudget(XPU)

    def progress(done: int, total: int) -> None:
        if not finished:
            emulated.devices[0].fail_allocation(nth)
        finished.append(done // 3600)

    task = PictureTask(call_of(network, XPU, (60, 60)), 4, images)
    with torch.inference_mode():
        found = hinted(task, Ui(progress), budget).pictures
    assert torch.allclose(found, wanted, atol=1e-6)
    assert budget.emptied, "the injected failure was not reached"
    # The second chunk was on its way when the first one was finished: the third one fails.
    assert finished == [4, 8, 10, 12]
    assert network.seen[:2] == [4, 4]
    assert network.seen[-2:] == [2, 2], "the frames that were left went in halves"
    assert len(network.seen) <= 5, "finished frames were computed again"


def test_pictures_reach_a_card_whole_whatever_goes_at_once(
    emulated_xpu: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(5)
    emulated_xpu([DeviceSpec(A770)], async_copies=True, poison=True)
    for size in (1, images[0].nbytes, 2 * images[0].nbytes, 1 << 30):
        monkeypatch.setattr(transfer, "PART_BYTES", size)
        there = transfer.Transfer(XPU).upload(images)
        assert torch.equal(there.cpu(), images)
        assert transfer.Transfer(XPU).upload(images[:0]).shape == (0, *images.shape[1:])


def test_what_does_not_fit_an_emptied_card_is_an_error_with_a_remedy(emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770, max_allocation=1 * MIB)])
    budget = CountingBudget(XPU)
    task = PictureTask(call_of(Edges(64).to(XPU), XPU, (120, 120)), 2, pictures(2, 120))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="smaller resolution") as caught:
        hinted(task, budget=budget)
    assert isinstance(caught.value, torch.OutOfMemoryError)
    assert "Toy Edges ran out of memory on xpu:0 with one picture of 120x120" in str(caught.value)
    assert budget.cleared == 1, "other models were not asked to leave, once"


def test_a_single_frame_that_is_tried_again_takes_nothing_from_those_that_are_finished(
    emulated_xpu: Make,
) -> None:
    images = pictures(3)
    wanted = one_by_one(images)
    emulated = emulated_xpu([DeviceSpec(A770)])
    budget = CountingBudget(XPU)
    told: list[int] = []

    def progress(done: int, total: int) -> None:
        if not told:
            emulated.devices[0].fail_allocation(3)
        told.append(done)

    call = call_of(Edges().to(XPU), XPU, (60, 60))
    with torch.inference_mode():
        found = hinted(PictureTask(call, 1, images), Ui(progress), budget).pictures
    assert budget.cleared == 1
    assert torch.allclose(found, wanted, atol=1e-6)


def test_other_errors_are_raised_and_no_picture_is_made_of_them(emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770)])
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"device|type"):
        hinted(
            PictureTask(call_of(Edges(), XPU, (60, 60)), 2, pictures(2))
        )  # it is still on the CPU


def test_a_hint_that_was_drawn_on_the_cpu_is_taken_from_there(emulated_xpu: Make) -> None:
    def drawn(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
        poses = tuple({"people": [], "mark": batch.first + one} for one in range(len(batch.images)))
        return Hint(torch.full((len(batch.images), 3, *batch.images.shape[-2:]), 0.5), poses)

    emulated_xpu([DeviceSpec(A770)])
    method = Method("Drawn", "Drawn", "pose", "For tests.", drawn, gives_poses=True)
    call = call_of(Edges().to(XPU), XPU, (60, 60), method=method)
    found = hinted(PictureTask(call, 2, pictures(5)))
    assert (found.pictures == 0.5).all()
    assert [pose["mark"] for pose in found.poses] == [0, 1, 2, 3, 4]
    assert {pose["canvas_height"] for pose in found.poses} == {60}


def test_an_operator_that_a_card_lacks_is_computed_alone_on_the_cpu_and_logged_once(
    emulated_xpu: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(missing_ops, "_MISSING", {})
    images = pictures(4)
    wanted = one_by_one(images)
    emulated = emulated_xpu([DeviceSpec(A770)])
    emulated.deny("aten::sigmoid")
    call = call_of(Edges().to(XPU), XPU, (60, 60))
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        found = hinted(PictureTask(call, 2, images)).pictures
        again = hinted(PictureTask(call, 2, images)).pictures
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.equal(found, again)
    assert len(caplog.records) == 1
    assert "xpu:0 has no aten.sigmoid" in caplog.text


def test_a_missing_operator_that_writes_to_its_argument_writes_to_it(
    emulated_xpu: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_ops, "_MISSING", {})
    emulated_xpu([DeviceSpec(A770)]).deny("aten::clamp")
    values = torch.tensor([-1.0, 0.5, 2.0], device=XPU)
    found = missing_ops.complete(XPU, lambda: values.clamp_(0, 1))
    assert found is values
    assert values.tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(NotImplementedError):
        missing_ops.complete(CPU, unwritten)


def unwritten() -> None:
    raise NotImplementedError("not written")


@pytest.mark.parametrize("free", [24 * MIB, 200 * MIB, 2048 * MIB])
def test_a_chunk_that_was_planned_runs_on_a_card_without_running_out(
    emulated_xpu: Make, free: int
) -> None:
    images = pictures(8, 120)
    emulated = emulated_xpu([DeviceSpec(A770, external_memory=A770.total_memory - free)])
    network = Edges(32)
    casting.attach(network)
    call = call_of(network.to(XPU), XPU, (120, 120))
    costs = dry_costs(call, meta_copy(network), images, None)
    assert costs is not None
    limits = Limits(int(torch.xpu.mem_get_info(0)[0] * 0.9), 64 * MIB)
    chunk = chunk_of(8, costs, limits, call.sizes)
    torch.xpu.reset_peak_memory_stats()
    held = torch.xpu.memory_allocated()
    emulated.reset_counters()
    network.seen.clear()
    with torch.inference_mode():
        hinted(PictureTask(call, chunk, images))
    assert emulated.devices[0].counters()["ooms"] == 0
    assert set(network.seen) == {chunk}
    assert chunk == (8 if free > 24 * MIB else chunk)
    assert chunk < 8 or free > 24 * MIB
    predicted = costs.of_chunk(chunk, 120 * 120).peak
    assert 0.6 * predicted < torch.xpu.max_memory_allocated() - held <= predicted


def test_a_method_that_looks_at_its_result_is_costed_up_to_there() -> None:
    def looking(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
        found = run_edges(network, batch, options)
        assert float(found.pictures.amax()) >= 0
        return found

    method = Method("Looking", "Looking", "lines", "For tests.", looking, multiple_of=8)
    network = Edges()
    plain, seen = (
        dry_costs(call_of(network, XPU, (60, 60), method=one), meta_copy(network), images, None)
        for one, images in ((EDGES, pictures(1)), (method, pictures(1)))
    )
    assert plain is not None
    assert seen is not None
    assert 0.9 * plain.one.peak <= seen.one.peak <= plain.one.peak

    def broken(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
        raise ValueError(float(batch.images.amax()))

    method = Method("Broken", "Broken", "lines", "For tests.", broken)
    call = call_of(network, XPU, (60, 60), method=method)
    assert dry_costs(call, meta_copy(network), pictures(1), None) is None
