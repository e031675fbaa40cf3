"""Pictures through a preprocessor, in chunks that fit, into a result that is written once."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference import missing_ops
from ...inference.surroundings import ALONE, Surroundings
from ...inference.transfer import Transfer, new_result
from ...xpu_runtime.errors import is_out_of_any_memory, out_of_memory_class
from ...xpu_runtime.log import LOGGER
from ...xpu_runtime.optimizing.blocks import is_compiled
from . import geometry
from .geometry import Geometry
from .method import Batch, Hint, Method


class WrongHintError(RuntimeError):
    """A preprocessor gave something else than pictures of the size that it was given."""


@dataclass(frozen=True)
class Job:
    """What is run."""

    method: Method
    network: nn.Module | None
    """On `device`."""
    options: Mapping[str, Any]
    sizes: Geometry
    device: torch.device


@dataclass(frozen=True)
class Result:
    """fp32 [B, H, W, 3] on the CPU, and POSE_KEYPOINT's list, empty where there are no poses."""

    pictures: Tensor
    poses: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """Pictures `first` to `end`, without the end."""

    first: int
    end: int


@dataclass(frozen=True)
class _Launched:
    """A part whose result is on its way: fp32 [N, H, W, 1 or 3]."""

    part: _Part
    result: Tensor
    ready: Any


def step(
    job: Job,
    pixels: Tensor,
    masks: Tensor | None,
    first: int = 0,
    check: Callable[[], None] = ALONE.check_interrupted,
) -> Hint:
    """One call: fp32 pixels [N, H, W, C] on the device -> a hint of the result's size.

    This is also what is run dry for the plan. Raises `WrongHintError`.
    """
    sizes = job.sizes
    images = geometry.prepared(geometry.rgb(pixels.movedim(-1, 1)), sizes)
    del pixels
    row = job.method.network(job.options)
    if row is not None:
        images = images.contiguous(memory_format=row.layout(images.device))
    if masks is not None:
        masks = _fitted(masks, sizes)
    hint = job.method.make_hint(job.network, Batch(images, first, masks, check), job.options)
    shape = tuple(hint.pictures.shape)
    if shape not in [(len(images), channels, *sizes.padded) for channels in (1, 3)]:
        raise WrongHintError(
            f"{job.method.title} made {shape} of {tuple(images.shape)}. This is a mistake in this "
            "extension: please report it."
        )
    pictures = geometry.finished(hint.pictures.float(), sizes)
    return Hint(pictures, tuple(placed(pose, sizes) for pose in hint.poses))


def _fitted(masks: Tensor, sizes: Geometry) -> Tensor:
    if tuple(masks.shape[-2:]) != sizes.computed:
        masks = functional.interpolate(masks, sizes.computed, mode="bilinear")
    return geometry.prepared(masks, sizes)


def placed(pose: Mapping[str, Any], sizes: Geometry) -> dict[str, Any]:
    """A pose relative to the padded picture, as POSE_KEYPOINT in pixels of the result."""
    height, width = sizes.result
    across = sizes.padded[1] / sizes.computed[1] * width
    down = sizes.padded[0] / sizes.computed[0] * height

    def scaled(value: Any) -> Any:
        if isinstance(value, list | tuple) and value and not isinstance(value[0], int | float):
            return [scaled(part) for part in value]
        if isinstance(value, list | tuple):
            factors = (across, down, 1.0)
            return [number * factors[index % 3] for index, number in enumerate(value)]
        if isinstance(value, Mapping):
            return {name: scaled(part) for name, part in value.items()}
        return value

    return {**scaled(pose), "canvas_height": height, "canvas_width": width}


@contextlib.contextmanager
def _asked_often(job: Job, check: Callable[[], None]) -> Iterator[None]:
    """On a CPU, where a picture may take minutes, each layer asks `check` before it computes."""
    hooks = [one.register_forward_pre_hook(lambda *_: check()) for one in _asked_layers(job)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _asked_layers(job: Job) -> list[nn.Module]:
    if job.network is None or job.device.type != "cpu":
        return []
    parts = list(job.network.modules())
    # A program has none to ask, and for torch's compiler a network with hooks is another one.
    if any(isinstance(one, torch.jit.ScriptModule) or is_compiled(one) for one in parts):
        return []
    return [one for one in parts if not any(one.children())]


class Run:
    """One run over a node's pictures. Create one for each."""

    def __init__(
        self,
        job: Job,
        chunk: int,
        images: Tensor,
        masks: Tensor | None = None,
        around: Surroundings = ALONE,
        make_room: Callable[[], None] = lambda: None,
        measure: Callable[[int], int] | None = None,
    ) -> None:
        """`images`: fp32 [B, H, W, C] on the CPU; `masks`: fp32 [B or 1, 1, H, W] on the CPU.

        `make_room` clears the device of everything else, after memory has run out for a single
        picture. `measure`, where nothing could be predicted, is told after the first chunk how
        many pictures it had, and says how many the next may have.
        """
        self.job = job
        self.chunk = chunk
        self.images = images
        self.masks = masks
        self.around = around
        self.make_room = make_room
        self.measure = measure
        self.transfer = Transfer(job.device)
        self.waiting: deque[_Part] = deque([_Part(0, len(images))] if len(images) else [])
        self.poses: list[dict[str, Any]] = [{} for _ in images] if job.method.gives_poses else []
        self._cleared = False
        self._done = 0

    def result(self) -> Result:
        """What the preprocessor makes of the pictures.

        When memory runs out, the pictures that are not finished go in smaller chunks. Raises
        what the method, `check_interrupted` and `progress` raise, and `torch.OutOfMemoryError`
        if not even one picture fits an emptied device.
        """
        output = new_result(len(self.images), *self.job.sizes.result, 3)
        with _asked_often(self.job, self.around.check_interrupted):
            self._write(output)
        return Result(output, self.poses)

    def _write(self, output: Tensor) -> None:
        overlapping = self.job.device.type != "cpu"
        launched: _Launched | None = None
        while self.waiting or launched is not None:
            before, launched = launched, None
            if self.waiting:
                self.around.check_interrupted()
                part = self._next()
                launched = self._try(part, lambda part=part: self._launch(part))
            if launched is not None and overlapping:
                # The machine hands out the result's memory while the device computes.
                output[launched.part.first : launched.part.end].zero_()
            if before is None and (not overlapping or self.measure is not None):
                before, launched = launched, None
            if before is not None:
                self._try(before.part, lambda before=before: self._finish(before, output))

    def _next(self) -> _Part:
        part = self.waiting.popleft()
        end = min(part.end, part.first + self.chunk)
        if end < part.end:
            self.waiting.appendleft(_Part(end, part.end))
        return _Part(part.first, end)

    def _try(self, part: _Part, call: Callable[[], Any]) -> Any:
        """`call()`; None if memory ran out, and the part waits for another try."""
        try:
            return call()
        except RuntimeError as error:
            if not is_out_of_any_memory(error):
                raise
            reason = str(error).splitlines()[0]
            # The frames of the failed call hold its tensors.
            error.__traceback__ = None
            if part.end - part.first == 1 and self._cleared:
                raise out_of_memory_class()(self._too_large(reason)) from error
        LOGGER.warning("Preprocessing: out of memory (%s). Going on with less.", reason)
        self.waiting.appendleft(part)
        self.around.empty_caches()
        if part.end - part.first == 1:
            self._cleared = True
            self.make_room()
        self.chunk = max(1, (part.end - part.first) // 2)
        return None

    def _too_large(self, reason: str) -> str:
        height, width = self.job.sizes.padded
        return (
            f"{self.job.method.title} ran out of memory on {self.job.device} with one picture of "
            f"{width}x{height} ({reason}). Set a smaller resolution, choose another device, or "
            "close other programs that use this one."
        )

    def _launch(self, part: _Part) -> _Launched:
        pixels = self.transfer.upload(self.images[part.first : part.end].float())
        masks = None
        if self.masks is not None:
            chosen = self.masks if len(self.masks) == 1 else self.masks[part.first : part.end]
            masks = self.transfer.upload(chosen.contiguous().float())
        hint = missing_ops.complete(
            self.job.device,
            lambda: step(self.job, pixels, masks, part.first, self.around.check_interrupted),
        )
        if self.job.method.gives_poses:
            self.poses[part.first : part.end] = hint.poses
        result = hint.pictures.movedim(1, -1)
        if result.device.type != "cpu":
            result = result.contiguous()
        return _Launched(part, result, self.transfer.ready())

    def _finish(self, launched: _Launched, output: Tensor) -> None:
        part, result = launched.part, launched.result
        target = output[part.first : part.end]

        def write(first: int, end: int, pixels: Tensor) -> None:
            target[:, first:end].copy_(pixels)

        if result.device.type == "cpu":
            write(0, result.shape[1], result)
        else:
            self.transfer.download(result, launched.ready, write)
        self._done += part.end - part.first
        if self.measure is not None:
            self.chunk = self.measure(part.end - part.first)
            self.measure = None
        self.around.progress(self._done, len(self.images))
