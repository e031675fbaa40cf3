"""Preprocessors over many pictures: chunks, memory that runs out, interrupts, missing operators."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import networks
import pytest
import torch
from comfyui_ipex.nodes.inference import casting, missing_ops
from comfyui_ipex.nodes.inference.dry_run import Cost, without_numbers
from comfyui_ipex.nodes.inference.limits import Limits
from comfyui_ipex.nodes.inference.surroundings import Surroundings
from comfyui_ipex.nodes.preprocess.geometry import geometry
from comfyui_ipex.nodes.preprocess.loaded import callables
from comfyui_ipex.nodes.preprocess.method import Batch, Hint, Method
from comfyui_ipex.nodes.preprocess.preprocessor import (
    Costs,
    chunk_of,
    cost_of_chunk,
    dry_costs,
)
from comfyui_ipex.nodes.preprocess.running import Job, Run, WrongHintError, placed
from torch import Tensor, nn
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

MIB = 1 << 20
Make = Callable[..., EmulatedXpu]
XPU = torch.device("xpu:0")
CPU = torch.device("cpu")


class Edges(nn.Module):
    """Three convolutions, as wide as is asked for."""

    def __init__(self, features: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        self.last = nn.Conv2d(features, 1, 3, padding=1)
        numbers = torch.Generator().manual_seed(4)
        for weight in self.parameters():
            weight.data.uniform_(-0.3, 0.3, generator=numbers)
        self.seen: list[int] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen.append(len(pictures))
        return self.last(torch.relu(self.second(torch.relu(self.first(pictures)))))


def run_edges(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    assert network is not None
    return Hint(torch.sigmoid(network(batch.images) * 4))


EDGES = Method("Toy", "Toy Edges", "lines", "For tests.", run_edges, multiple_of=8)


def job_of(network: nn.Module, device: torch.device, size: tuple[int, int], **more: Any) -> Job:
    method = more.pop("method", EDGES)
    sizes = geometry(*size, more.pop("resolution", 0), method.multiple_of, **more)
    return Job(method, network.eval(), {}, sizes, device)


def pictures(count: int, side: int = 60) -> Tensor:
    return torch.cat([networks.photo(side, side, 10 + 20 * one, 130) for one in range(count)])


def one_by_one(images: Tensor, **more: Any) -> Tensor:
    job = job_of(Edges(), CPU, (images.shape[1], images.shape[2]), **more)
    with torch.inference_mode():
        return Run(job, 1, images).result().pictures


@pytest.mark.parametrize("resolution", [0, 40, 100])
@pytest.mark.parametrize("match", [False, True])
def test_chunks_give_what_single_pictures_give(resolution: int, match: bool) -> None:
    images = pictures(5)
    wanted = one_by_one(images, resolution=resolution, match_input=match)
    network = Edges()
    job = job_of(network, CPU, (60, 60), resolution=resolution, match_input=match)
    with torch.inference_mode():
        found = Run(job, 2, images).result().pictures
    assert network.seen == [2, 2, 1]
    side = 60 if match or not resolution else resolution
    assert found.shape == (5, side, side, 3)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-6)
    assert found.std() > 0.005, "the hint is flat: every difference would hide"


@pytest.mark.parametrize("copies", [{}, {"async_copies": True, "poison": True}], ids=["", "late"])
def test_a_card_without_fp64_gives_the_cpus_pictures(emulated_xpu: Make, copies: Any) -> None:
    images = pictures(5)
    wanted = one_by_one(images, resolution=50)
    emulated = emulated_xpu([DeviceSpec(A770)], **copies)
    job = job_of(Edges().to(XPU), XPU, (60, 60), resolution=50)
    emulated.reset_counters()
    with torch.inference_mode():
        found = Run(job, 2, images).result().pictures
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
    emptied: list[int] = []

    def progress(done: int, total: int) -> None:
        if not finished:
            emulated.devices[0].fail_allocation(nth)
        finished.append(done)

    around = Surroundings(progress, empty_caches=lambda: emptied.append(1))
    with torch.inference_mode():
        found = Run(job_of(network, XPU, (60, 60)), 4, images, around=around).result().pictures
    assert torch.allclose(found, wanted, atol=1e-6)
    assert emptied, "the injected failure was not reached"
    # The second chunk was on its way when the first one was finished: the third one fails.
    assert finished == [4, 8, 10, 12]
    assert network.seen[:2] == [4, 4]
    assert network.seen[-2:] == [2, 2], "the frames that were left went in halves"
    assert len(network.seen) <= 5, "finished frames were computed again"


def test_what_does_not_fit_an_emptied_card_is_an_error_with_a_remedy(emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770, max_allocation=1 * MIB)])
    cleared: list[int] = []
    job = job_of(Edges(64).to(XPU), XPU, (120, 120))
    run = Run(job, 2, pictures(2, 120), make_room=lambda: cleared.append(1))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="smaller resolution") as caught:
        run.result()
    assert isinstance(caught.value, torch.OutOfMemoryError)
    assert "Toy Edges ran out of memory on xpu:0 with one picture of 120x120" in str(caught.value)
    assert cleared == [1], "other models were not asked to leave, once"


def test_a_single_frame_that_is_tried_again_takes_nothing_from_those_that_are_finished(
    emulated_xpu: Make,
) -> None:
    images = pictures(3)
    wanted = one_by_one(images)
    emulated = emulated_xpu([DeviceSpec(A770)])
    cleared: list[int] = []
    told: list[int] = []

    def progress(done: int, total: int) -> None:
        if not told:
            emulated.devices[0].fail_allocation(3)
        told.append(done)

    around = Surroundings(progress)
    job = job_of(Edges().to(XPU), XPU, (60, 60))
    with torch.inference_mode():
        found = Run(job, 1, images, None, around, lambda: cleared.append(1)).result().pictures
    assert cleared == [1]
    assert torch.allclose(found, wanted, atol=1e-6)


def test_other_errors_are_raised_and_no_picture_is_made_of_them(emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770)])
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"device|type"):
        Run(job_of(Edges(), XPU, (60, 60)), 2, pictures(2)).result()  # it is still on the CPU


def test_progress_is_told_and_an_interrupt_ends_the_run_between_chunks() -> None:
    told: list[tuple[int, int]] = []

    class StopError(Exception):
        pass

    def stop() -> None:
        if len(told) == 2:
            raise StopError

    network = Edges()
    around = Surroundings(lambda *now: told.append(now), stop)
    with torch.inference_mode(), pytest.raises(StopError):
        Run(job_of(network, CPU, (60, 60)), 2, pictures(8), around=around).result()
    assert told == [(2, 8), (4, 8)]
    assert network.seen == [2, 2]


def test_a_hint_of_another_size_is_an_error_that_names_the_method() -> None:
    def halved(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
        return Hint(batch.images[..., ::2, ::2])

    method = Method("Half", "Halves", "lines", "For tests.", halved)
    job = job_of(Edges(), CPU, (60, 60), method=method)
    with pytest.raises(WrongHintError, match="Halves made"):
        Run(job, 1, pictures(1)).result()


def test_poses_are_in_pixels_of_the_result_without_the_padding() -> None:
    sizes = geometry(100, 50, 100, 64, match_input=False)
    assert (sizes.computed, sizes.padded) == ((200, 100), (256, 128))
    body = [0.5, 0.5, 1.0, 0.25, 0.125, 1.0]
    person = {"pose_keypoints_2d": body, "face_keypoints_2d": None}
    found = placed({"people": [person]}, sizes)
    assert found == {
        "people": [
            {
                "pose_keypoints_2d": [64.0, 128.0, 1.0, 32.0, 32.0, 1.0],
                "face_keypoints_2d": None,
            }
        ],
        "canvas_height": 200,
        "canvas_width": 100,
    }
    animal = placed({"animals": [[[0.5, 0.5, 1.0]]]}, sizes)
    assert animal["animals"] == [[[64.0, 128.0, 1.0]]]


def test_a_hint_that_was_drawn_on_the_cpu_is_taken_from_there(emulated_xpu: Make) -> None:
    def drawn(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
        poses = tuple({"people": [], "mark": batch.first + one} for one in range(len(batch.images)))
        return Hint(torch.full((len(batch.images), 3, *batch.images.shape[-2:]), 0.5), poses)

    emulated_xpu([DeviceSpec(A770)])
    method = Method("Drawn", "Drawn", "pose", "For tests.", drawn, gives_poses=True)
    job = job_of(Edges().to(XPU), XPU, (60, 60), method=method)
    found = Run(job, 2, pictures(5)).result()
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
    job = job_of(Edges().to(XPU), XPU, (60, 60))
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        found = Run(job, 2, images).result().pictures
        again = Run(job, 2, images).result().pictures
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
    job = job_of(network.to(XPU), XPU, (120, 120))
    costs = dry_costs(job, without_numbers(network), images, None)
    assert costs is not None
    limits = Limits(int(torch.xpu.mem_get_info(0)[0] * 0.9), 64 * MIB)
    chunk = chunk_of(8, costs, limits, job.sizes)
    torch.xpu.reset_peak_memory_stats()
    held = torch.xpu.memory_allocated()
    emulated.reset_counters()
    network.seen.clear()
    with torch.inference_mode():
        Run(job, chunk, images).result()
    assert emulated.devices[0].counters()["ooms"] == 0
    assert set(network.seen) == {chunk}
    assert chunk == (8 if free > 24 * MIB else chunk)
    assert chunk < 8 or free > 24 * MIB
    predicted = cost_of_chunk(costs, chunk, 120 * 120).peak
    assert 0.6 * predicted < torch.xpu.max_memory_allocated() - held <= predicted


def test_chunks_are_as_large_as_fits_and_evenly_shared_out() -> None:
    sizes = geometry(64, 64, 0)
    costs = Costs(Cost(110, 10), Cost(210, 20))
    assert chunk_of(16, costs, Limits(10**9, None), sizes) == 16
    assert chunk_of(16, costs, Limits(10**9, 150), sizes) == 8, "15 fit, but 8 and 8 are better"
    assert chunk_of(16, costs, Limits(1, None), sizes) == 1
    large = geometry(2048, 2048, 0)
    assert chunk_of(16, None, Limits(1 << 40, None), large) == 1
    half = geometry(512, 512, 0)
    assert chunk_of(16, None, Limits(1 << 40, None), half) == 16
    assert chunk_of(16, None, Limits(1 << 40, None, small=True), half) == 4, "on the CPU"
    assert chunk_of(0, None, Limits(1 << 40, None), large) == 1


def test_where_nothing_could_be_predicted_the_first_picture_is_measured() -> None:
    network = Edges()
    run = Run(job_of(network, CPU, (60, 60)), 1, pictures(8), measure=lambda frames: 3 * frames)
    with torch.inference_mode():
        run.result()
    assert network.seen == [1, 3, 3, 1]


def test_a_method_that_looks_at_its_result_is_costed_up_to_there() -> None:
    def looking(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
        found = run_edges(network, batch, options)
        assert float(found.pictures.amax()) >= 0
        return found

    method = Method("Looking", "Looking", "lines", "For tests.", looking, multiple_of=8)
    network = Edges()
    plain, seen = (
        dry_costs(
            job_of(network, XPU, (60, 60), method=one), without_numbers(network), images, None
        )
        for one, images in ((EDGES, pictures(1)), (method, pictures(1)))
    )
    assert plain is not None
    assert seen is not None
    assert 0.9 * plain.one.peak <= seen.one.peak <= plain.one.peak

    def broken(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
        raise ValueError(float(batch.images.amax()))

    method = Method("Broken", "Broken", "lines", "For tests.", broken)
    job = job_of(network, XPU, (60, 60), method=method)
    assert dry_costs(job, without_numbers(network), pictures(1), None) is None


def test_parts_of_a_network_that_is_only_a_container_are_what_is_called() -> None:
    inner = nn.ModuleDict({"body": Edges(), "hands": nn.ModuleList([Edges(), Edges()])})
    assert callables(inner) == [inner["body"], *inner["hands"]]
    assert callables(inner["body"]) == [inner["body"]]
