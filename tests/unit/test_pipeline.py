"""Pipeline without a host or a worker: parts, order, overlap, what is kept of a stopped run."""

import contextlib
from typing import Any

import pytest
import torch
from comfyui_ipex.nodes.pipeline import flow
from comfyui_ipex.nodes.pipeline.classes import IpexPipeline, UnsuitableLatentError
from comfyui_ipex.nodes.pipeline.flow import BatchFlow, FinishedParts, Finishing, Unfinished
from comfyui_ipex.nodes.pipeline.parts import BatchPart, ConditioningPair, split_batch
from comfyui_ipex.xpu_runtime import host
from comfyui_ipex.xpu_runtime.placement import Computed, Here, There
from in_process_worker import InProcessWorker


class StoppedError(Exception):
    """Stands for the host's interruption."""


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the host, without one."""
    monkeypatch.setattr(host, "part_of_progress", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(host, "is_interruption", lambda error: isinstance(error, StoppedError))
    monkeypatch.setattr(host, "sampler_names", lambda: ["euler"])
    monkeypatch.setattr(host, "scheduler_names", lambda: ["normal"])


class Elsewhere:
    """A step in a worker that is done when somebody waits for it. Writes down what happens."""

    def __init__(self, fails_at: float = -1.0) -> None:
        self.seen: list[str] = []
        self.most = 0
        self.fails_at = fails_at

    def at_once(self) -> Any:
        """The same step, done as soon as it has begun."""

        def step(latents: torch.Tensor) -> Any:
            later = self(latents)
            return Computed(later.result())

        return step

    def __call__(self, latents: torch.Tensor) -> Any:
        step, number = self, int(latents[0, 0])

        class Later:
            def is_there(self) -> bool:
                return False

            def result(self) -> torch.Tensor:
                if number == step.fails_at:
                    raise ValueError("no decoder")
                step.seen.append(f"done {number}")
                return latents.reshape(-1, 1, 1, 1) * 10

            def abandon(self) -> None:
                step.seen.append(f"left {number}")

        self.seen.append(f"begun {number}")
        began, done = (sum(one.startswith(kind) for one in self.seen) for kind in ("beg", "don"))
        self.most = max(self.most, began - done)
        return Later()


def flow_of(
    step: Any, count: int, done: FinishedParts, stop_at: int = -1, at_once: int = 1
) -> BatchFlow:
    """A batch whose latents are their numbers, in a worker if `step` is one."""
    seen = step.seen if isinstance(step, Elsewhere) else step

    def sample(part: BatchPart) -> torch.Tensor:
        if part.first == stop_at:
            raise StoppedError
        seen.append(f"sampled {part.first}")
        return torch.arange(part.first, part.first + part.count, dtype=torch.float32)[:, None]

    def here(latents: torch.Tensor) -> Any:
        seen.append(f"here {int(latents[0, 0])}")
        return Computed(latents.reshape(-1, 1, 1, 1) * 10)

    away = isinstance(step, Elsewhere)
    found = Finishing((step,) if away else (here,), away, "")
    return BatchFlow(split_batch(count, at_once), sample, found, done)


def pictures(work: FinishedParts) -> list[float]:
    """What stands for the pictures."""
    assert work.pictures is not None
    return work.pictures.flatten().tolist()


def test_the_next_is_sampled_while_a_worker_has_at_most_two() -> None:
    step, work = Elsewhere(), FinishedParts()
    flow_of(step, 5, work).finish()
    assert step.seen[:5] == ["sampled 0", "begun 0", "sampled 1", "begun 1", "sampled 2"]
    assert step.seen[5:7] == ["done 0", "begun 2"]
    assert step.most == flow.UNDER_WAY == 2
    assert pictures(work) == [0.0, 10.0, 20.0, 30.0, 40.0]


def test_without_a_worker_all_is_sampled_before_the_first_is_decoded() -> None:
    seen: list[str] = []
    work = FinishedParts()
    flow_of(seen, 3, work).finish()
    assert seen == [f"{what} {number}" for what in ("sampled", "here") for number in range(3)]
    assert pictures(work) == [0.0, 10.0, 20.0]


def test_parts_of_several_and_steps_that_make_several_pictures_keep_their_order() -> None:
    step, work = Elsewhere(), FinishedParts()
    flow_of(step, 5, work, at_once=2).finish()
    assert pictures(work) == [0.0, 10.0, 20.0, 30.0, 40.0]
    frames = FinishedParts()
    for part, first in zip(split_batch(3, 2), (0, 4), strict=True):
        found = torch.arange(first, first + 2 * part.count).reshape(-1, 1, 1, 1).float()
        frames.add_pictures(part, found)
    assert pictures(frames) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_with_two_workers_a_part_moves_to_the_second_while_the_next_is_sampled() -> None:
    decoder, enlarger, work = Elsewhere(), Elsewhere(), FinishedParts()
    steps = (decoder.at_once(), lambda pictures: enlarger(pictures.reshape(-1, 1) / 10))
    made = flow_of(decoder, 3, work)
    made.finishing = Finishing(steps, True, "")
    made.finish()
    assert enlarger.seen[:2] == ["begun 0", "begun 1"]
    assert decoder.seen.index("sampled 2") > decoder.seen.index("done 0")
    assert pictures(work) == [0.0, 10.0, 20.0]


def test_a_stopped_run_leaves_workers_free_and_the_next_goes_on_from_there() -> None:
    step, work = Elsewhere(), FinishedParts()
    with pytest.raises(StoppedError):
        flow_of(step, 5, work, stop_at=3).finish()
    assert step.seen[-2:] == ["left 2", "left 1"]  # the one that waits before the one that runs
    assert (work.count, len(work.latents)) == (1, 3)
    again = Elsewhere()
    flow_of(again, 5, work).finish()
    assert again.seen[:4] == ["begun 1", "begun 2", "sampled 3", "done 1"]
    assert pictures(work) == [0.0, 10.0, 20.0, 30.0, 40.0]


def test_an_error_in_a_worker_is_raised_and_what_was_done_before_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    step, work = Elsewhere(fails_at=2), FinishedParts()
    with pytest.raises(ValueError, match="no decoder"):
        flow_of(step, 5, work).finish()
    assert work.count == 2
    assert "failed (ValueError) after 2 of 5 pictures" in caplog.text
    assert step.seen[-2:] == ["left 3", "left 2"]


class Doubling:
    """A VAE whose pictures are its latents, doubled."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """[B, 1, 1, 1] from [B, 1]."""
        return latents.reshape(-1, 1, 1, 1) * 2


@pytest.mark.parametrize(
    ("decoder", "enlarger", "steps", "overlaps", "text"),
    [
        ("", None, 1, False, "Decoded in this process"),
        ("one", None, 1, True, "Decoded on the worker 'one'"),
        ("", "", 1, False, "Decoded in this process, enlarged in this process"),
        ("one", "one", 1, True, "Decoded on the worker 'one', enlarged on the worker 'one'"),
        ("one", "", 2, True, "Decoded on the worker 'one', enlarged in this process"),
        ("", "one", 2, True, "Decoded in this process, enlarged on the worker 'one'"),
        ("one", "two", 2, True, "Decoded on the worker 'one', enlarged on the worker 'two'"),
    ],
)
def test_steps_of_one_process_are_one_and_the_pictures_are_the_same_wherever_they_are_made(
    monkeypatch: pytest.MonkeyPatch,
    decoder: str,
    enlarger: str | None,
    steps: int,
    overlaps: bool,
    text: str,
) -> None:
    monkeypatch.setattr(flow, "enlarge", lambda factor, pictures: pictures * factor)
    workers = {name: InProcessWorker(name) for name in ("one", "two")}

    def locate(name: str, make: Any) -> Any:
        cpu = torch.device("cpu")
        location = There(workers[name], cpu) if name else Here(cpu)
        return location, location.hold(make)

    enlarging = None if enlarger is None else locate(enlarger, lambda: 10)
    found = flow.plan_steps(Here(torch.device("meta")), locate(decoder, Doubling), enlarging)
    assert (len(found.steps), found.overlaps, found.text) == (steps, overlaps, text)
    part = flow.PartUnderWay(BatchPart(0, 2, 2), found.steps, torch.tensor([[1.0], [2.0]]))
    assert part.advance(wait=True)
    factor = 2 if enlarger is None else 20
    assert part.result().flatten().tolist() == [1.0 * factor, 2.0 * factor]


class Model:
    """What can be referred to weakly."""


def test_only_the_very_same_inputs_are_taken_up() -> None:
    model, conditioning = Model(), [["text", {}]]
    unfinished = Unfinished()
    work = unfinished.take_up((model, conditioning), {"seed": 1})
    work.count = 1
    assert unfinished.take_up((model, conditioning), {"seed": 1}) is work
    assert unfinished.take_up((model, conditioning), {"seed": 2}).count == 0
    work = unfinished.take_up((model, conditioning), {"seed": 2})
    assert unfinished.take_up((model, [["text", {}]]), {"seed": 2}) is not work
    assert unfinished.take_up((Model(), conditioning), {"seed": 2}) is not work
    work = unfinished.take_up((model, conditioning), {"seed": 2})
    unfinished.forget()
    assert unfinished.take_up((model, conditioning), {"seed": 2}) is not work


class Control:
    """A ControlNet, as far as a part of a batch is concerned."""

    def __init__(self, hint: torch.Tensor, before: "Control | None" = None) -> None:
        self.cond_hint_original = hint
        self.extra_concat_orig = [hint * 2]
        self.previous_controlnet = before

    def copy(self) -> "Control":
        """Another one, which does not know those before it, as in the host."""
        return Control(self.cond_hint_original)

    def set_previous_controlnet(self, before: "Control | None") -> None:
        """As the host's."""
        self.previous_controlnet = before


def test_a_part_gets_the_rows_of_the_conditioning_that_belong_to_it() -> None:
    hints, one = torch.arange(4.0)[:, None], torch.ones(1, 1)
    control = Control(hints, Control(one, Control(hints + 10)))
    rest = {"control": control, "mask": torch.arange(2.0), "concat_mask": hints, "strength": 0.5}
    positive, negative = [[hints, rest]], [[one, {"control": control}]]
    conditioning = ConditioningPair(positive, negative)
    assert conditioning.cut(BatchPart(0, 4, 4)) == (positive, negative)
    ((text, own),), ((other, rest_of_other),) = conditioning.cut(BatchPart(2, 1, 4))
    assert (text.tolist(), own["mask"].tolist(), own["concat_mask"].tolist()) == (
        [[2.0]],
        [0.0],  # two rows are used in turns
        [[2.0]],
    )
    assert own["strength"] == 0.5
    assert other is one
    found = own["control"]
    assert found is rest_of_other["control"]
    assert found.cond_hint_original.tolist() == [[2.0]]
    assert found.extra_concat_orig[0].tolist() == [[4.0]]
    assert found.previous_controlnet.cond_hint_original is one
    assert found.previous_controlnet.previous_controlnet.cond_hint_original.tolist() == [[12.0]]
    assert control.cond_hint_original is hints
    alone = Control(one)
    assert ConditioningPair([[one, {"control": alone}]], []).cut(BatchPart(2, 1, 4))[0][0][1][
        "control"
    ] is alone  # fmt: skip


def test_a_latent_without_a_batch_is_refused_by_name() -> None:
    widgets = {"seed": 1, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    given: dict[str, Any] = {"model": None, "positive": [], "negative": [], "vae": None}
    for samples, why in ((object(), "no single batch"), (torch.zeros(0, 4, 8, 8), "no latents")):
        latent = {"samples": samples}
        inputs = {**given, **widgets, "denoise": 1.0, "at_once": 1, "latent_image": latent}
        with pytest.raises(UnsuitableLatentError, match=why):
            IpexPipeline.sample_and_finish.__wrapped__(IpexPipeline(), **inputs)
