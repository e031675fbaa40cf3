"""Runs a task: pieces go through a network, and each result is written once.

While a device computes one call, the results of the one before it are copied and written. When
memory runs out, finished pieces are kept, and the rest goes on in smaller calls. This is the only
module of nodes and inference that handles memory that runs out.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from ..xpu_runtime import host
from ..xpu_runtime.errors import is_out_of_any_memory, out_of_memory_class
from ..xpu_runtime.log import LOGGER
from .budget import Budget
from .missing_ops import complete
from .transfer import Transfer

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_STEPS = 1000
"""Of a node's progress bar."""


@dataclass(frozen=True)
class Ui:
    """What a run asks of the program around it."""

    progress: Callable[[int, int], None] = lambda done, total: None
    """Called after each step with the work that is done and the whole work."""
    check_interrupted: Callable[[], None] = lambda: None
    """Called before each step; raises to end the run."""


SILENT = Ui()


def node_ui() -> Ui:
    """The running node's progress bar and Cancel button."""
    bar = host.progress_bar(_STEPS)

    def progress(done: int, total: int) -> None:
        bar.update_absolute(round(_STEPS * done / total), _STEPS)

    return Ui(progress, host.check_interrupted)


@dataclass(frozen=True)
class Region:
    """Pixels of the result: neighbouring frames, rows, columns and channels, ends excluded."""

    first: int
    end: int
    top: int
    bottom: int
    left: int
    right: int
    channel: int
    channels: int

    @property
    def slices(self) -> tuple[slice, slice, slice, slice]:
        """For a tensor [B, H, W, C]."""
        return (
            slice(self.first, self.end),
            slice(self.top, self.bottom),
            slice(self.left, self.right),
            slice(self.channel, self.channel + self.channels),
        )

    @property
    def pixels(self) -> int:
        """Area, of all frames."""
        return (self.end - self.first) * (self.bottom - self.top) * (self.right - self.left)


@dataclass(frozen=True)
class Placing:
    """Where the result of a piece goes."""

    region: Region
    """Of one frame."""
    top: int = 0
    """The row and the column of the piece's result at which the region begins."""
    left: int = 0


class Sink(Protocol):
    def reserve(self, region: Region) -> None:
        """Have the machine hand out the memory of `region`, while the device computes."""

    def write(self, region: Region, pixels: Tensor) -> None:
        """Take `pixels` [N, H, W, C] on the CPU, in any float dtype; no view of them is kept.

        A single channel stands for all of the region's.
        """

    def finish(self, region: Region) -> None:
        """All of `region`, the result of a call, was written; called once for each pixel."""


class TensorSink:
    """Writes to a tensor fp32 [B, H, W, C] on the CPU."""

    def __init__(self, result: Tensor) -> None:
        self.result = result

    def reserve(self, region: Region) -> None:
        """The first write to memory is what makes the machine hand it out."""
        self.result[region.slices].zero_()

    def write(self, region: Region, pixels: Tensor) -> None:
        self.result[region.slices].copy_(pixels)

    def finish(self, region: Region) -> None:
        """Nothing is left to do."""


class Task(Protocol[Piece]):
    """How work is cut, and what a call makes of its pieces."""

    @property
    def title(self) -> str:
        """For logs: "Upscaling"."""

    @property
    def device(self) -> torch.device: ...

    @property
    def at_once(self) -> int:
        """Pieces that a call takes at first."""

    @property
    def measure(self) -> Callable[[int], int] | None:
        """Called after the first call with its number of pieces, where nothing could be predicted.

        Answers how many the next may take. Calls do not overlap before.
        """

    def pieces(self) -> Iterable[Piece]:
        """All of the work, in order."""

    def goes_with(self, last: Piece, other: Piece) -> bool:
        """Whether `other` may go through the network with `last`, next to it."""

    def size(self, piece: Piece) -> int:
        """Pixels that the network sees of it."""

    def split(self, piece: Piece) -> list[Piece]:
        """The same work in smaller pieces; `piece` alone where it cannot be cut."""

    def inputs(self, pieces: list[Piece]) -> tuple[Tensor, ...]:
        """fp32 tensors on the CPU, which the stream brings to the device."""

    def compute(self, pieces: list[Piece], inputs: tuple[Tensor, ...]) -> Tensor:
        """The network's result for `inputs` on the device: [N, H, W, C], on any device."""

    def placing(self, piece: Piece) -> Placing:
        """Where the result of `piece` goes."""

    def too_large(self) -> str:
        """What to say when memory runs out for a piece that cannot be cut; with a remedy."""


class FrameTask:
    """A task whose pieces are whole frames, by their index: they are never cut."""

    def __init__(self, images: Tensor, result_size: tuple[int, int], channels: int) -> None:
        """`images`: [B, H, W, C] on the CPU; each gives a frame of `result_size` and `channels`."""
        self.images = images
        self._result = (*result_size, channels)

    def pieces(self) -> range:
        return range(len(self.images))

    def goes_with(self, last: int, other: int) -> bool:
        """Frames that follow each other are views of one tensor."""
        return other == last + 1

    def size(self, piece: int) -> int:
        height, width = self.images.shape[1:3]
        return int(height * width)

    def split(self, piece: int) -> list[int]:
        return [piece]

    def placing(self, piece: int) -> Placing:
        height, width, channels = self._result
        return Placing(Region(piece, piece + 1, 0, height, 0, width, 0, channels))


@dataclass(frozen=True)
class _Call(Generic[Piece]):
    """Pieces whose result [N, H, W, C] is on its way."""

    pieces: list[Piece]
    result: Tensor
    ready: Any


def run(task: Task[Piece], sink: Sink, budget: Budget, ui: Ui = SILENT) -> None:
    """Have every piece of `task` computed, and its result written to `sink` once.

    Raises what the task, `check_interrupted` and `progress` raise, and `torch.OutOfMemoryError`
    if a piece that cannot be cut does not fit a device without other models.
    """
    _Stream(task, sink, budget, ui).finish()


class _Stream(Generic[Piece]):
    def __init__(self, task: Task[Piece], sink: Sink, budget: Budget, ui: Ui) -> None:
        self.task = task
        self.sink = sink
        self.budget = budget
        self.ui = ui
        self.transfer = Transfer(task.device)
        self.waiting: deque[Piece] = deque(task.pieces())
        self.at_once = task.at_once
        self.overlaps = task.device.type != "cpu"
        self._measure = task.measure
        self._largest: int | None = None
        """The size of a piece for which memory ran out: others of that size are cut before."""
        self._cleared = False
        self._written = 0
        self._total = sum(task.placing(piece).region.pixels for piece in self.waiting)

    def finish(self) -> None:
        launched: _Call[Piece] | None = None
        while self.waiting or launched is not None:
            before, launched = launched, None
            if self.waiting:
                self.ui.check_interrupted()
                pieces = self._next()
                launched = self._try(pieces, functools.partial(self._launch, pieces))
            if launched is not None and self.overlaps:
                for placing in _joined(self.task, launched.pieces):
                    self.sink.reserve(placing.region)
            if before is None and (not self.overlaps or self._measure is not None):
                before, launched = launched, None
            if before is not None:
                self._try(before.pieces, functools.partial(self._write, before))

    def _next(self) -> list[Piece]:
        """Up to `at_once` pieces that go through the network together."""
        first = self.waiting.popleft()
        if self._largest is not None and self.task.size(first) >= self._largest:
            parts = self.task.split(first)
            first = parts[0]
            self.waiting.extendleft(reversed(parts[1:]))
        together = [first]
        while self.waiting and len(together) < self.at_once:
            if not self.task.goes_with(together[-1], self.waiting[0]):
                break
            together.append(self.waiting.popleft())
        return together

    def _try(self, pieces: list[Piece], call: Callable[[], Result]) -> Result | None:
        """`call()`; None if memory ran out, and the pieces wait for smaller calls."""
        try:
            return call()
        except RuntimeError as error:
            if not is_out_of_any_memory(error):
                raise
            reason = str(error).splitlines()[0]
            # The frames of the failed call hold its tensors.
            error.__traceback__ = None
            smaller = self._smaller(pieces)
            if smaller is None and self._cleared:
                text = f"{self.task.too_large()} ({reason})"
                raise out_of_memory_class()(text) from error
        LOGGER.warning("%s: out of memory (%s). Going on with less.", self.task.title, reason)
        self.waiting.extendleft(reversed(smaller or pieces))
        self.budget.empty_caches()
        if smaller is None:
            self._cleared = True
            self.budget.clear()
        return None

    def _smaller(self, pieces: list[Piece]) -> list[Piece] | None:
        """The same work in smaller calls, or None if there are none."""
        if len(pieces) > 1:
            self.at_once = len(pieces) // 2
            return pieces
        self.at_once = 1
        parts = self.task.split(pieces[0])
        if len(parts) == 1:
            return None
        self._largest = self.task.size(pieces[0])
        return parts

    def _launch(self, pieces: list[Piece]) -> _Call[Piece]:
        task = self.task
        inputs = tuple(self.transfer.upload(one) for one in task.inputs(pieces))
        result = complete(task.device, lambda: task.compute(pieces, inputs))
        if result.device.type != "cpu":
            result = result.contiguous()
        return _Call(pieces, result, self.transfer.ready())

    def _write(self, call: _Call[Piece]) -> None:
        placings = _joined(self.task, call.pieces)

        def write(first: int, end: int, pixels: Tensor) -> None:
            taken = 0
            for placing in placings:
                count = placing.region.end - placing.region.first
                self._write_rows(placing, first, end, pixels[taken : taken + count])
                taken += count

        if call.result.device.type == "cpu":
            write(0, call.result.shape[1], call.result)
        else:
            self.transfer.download(call.result, call.ready, write)
        for placing in placings:
            self.sink.finish(placing.region)
            self._written += placing.region.pixels
        if self._measure is not None:
            self.at_once = self._measure(len(call.pieces))
            self._measure = None
        self.ui.progress(self._written, self._total)

    def _write_rows(self, placing: Placing, first: int, end: int, pixels: Tensor) -> None:
        """Of rows `first` to `end` of a result, `pixels`, what belongs to its region."""
        region = placing.region
        top = max(first, placing.top)
        bottom = min(end, placing.top + region.bottom - region.top)
        if top >= bottom:
            return
        left, width = placing.left, region.right - region.left
        at = region.top - placing.top
        rows = replace(region, top=at + top, bottom=at + bottom)
        self.sink.write(rows, pixels[:, top - first : bottom - first, left : left + width])


def _joined(task: Task[Piece], pieces: list[Piece]) -> list[Placing]:
    """Where the results go; whole frames that follow each other are written at once."""
    found: list[Placing] = []
    for piece in pieces:
        placing = task.placing(piece)
        last = found[-1] if found else None
        if last is not None and _continues(last, placing):
            joined = replace(last.region, end=placing.region.end)
            found[-1] = replace(last, region=joined)
        else:
            found.append(placing)
    return found


def _continues(last: Placing, other: Placing) -> bool:
    """Whether `other` is the same part of the next frame."""
    region = replace(other.region, first=last.region.first, end=last.region.end)
    same = replace(other, region=region) == last
    return same and other.region.first == last.region.end
