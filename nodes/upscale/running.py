"""Runs a plan: windows stream from the CPU through the network into a buffer written once."""

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...inference.surroundings import ALONE, Surroundings
from ...inference.transfer import Transfer, new_result
from ...xpu_runtime.errors import is_out_of_any_memory
from ...xpu_runtime.log import LOGGER
from .channels import Pass, passes, result_channels
from .plan import Plan
from .tiles import Canvas, Tile

Network = Callable[[Tensor], Tensor]
"""[N, C, H, W] in the network's dtype -> [N, C', H * scale, W * scale], 0 to 1."""


@dataclass(frozen=True)
class Job:
    """What is run."""

    network: Network
    scale: int
    channels: tuple[int, int]
    """Of the network: inputs and outputs."""
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class _Piece:
    """One tile of one frame, in one pass."""

    frame: int
    tile: Tile
    way: Pass
    target: int
    """The first channel of the result that this pass writes."""


@dataclass(frozen=True)
class _Launched:
    """Pieces whose result is on its way."""

    pieces: list[_Piece]
    result: Tensor
    ready: Any


def step(job: Job, way: Pass, pixels: Tensor) -> Tensor:
    """One call: fp32 pixels [N, H, W, C] on the device -> [N, H * scale, W * scale, C'].

    The result has the network's dtype: so less of it goes to the CPU, which makes it fp32 while
    it writes. The input stays a view of pixels that lie side by side (channels_last):
    convolutions are faster so, on CPUs too. This is also what is run dry for the plan.
    """
    image = pixels.movedim(-1, 1).to(job.dtype)
    del pixels
    result = way.scatter(job.network(image)).movedim(1, -1)
    return result if job.device.type == "cpu" else result.contiguous()


class Run:
    """One run over a batch of frames. Create one for each."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        images: Tensor,
        around: Surroundings = ALONE,
        look: Callable[[], int | None] | None = None,
    ) -> None:
        """`images`: fp32 [B, H, W, C] on the CPU, of the plan's size.

        `look` finds the halo in pixels if pictures that were planned whole must be cut after
        all, None where they must not; without it, the plan's halo serves.
        """
        self.job = job
        self.plan = plan
        self.images = images
        self.around = around
        self.ways = passes(images.shape[-1], *job.channels)
        self.transfer = Transfer(job.device)
        self.halo: int | None = plan.halo.pixels
        self.look = look if len(plan.tiles) == 1 else None
        self.batch = plan.batch
        self.largest: int | None = None
        self.waiting: deque[_Piece] = deque()
        self._padded: tuple[int, Tensor] | None = None
        self._written = 0
        self._total = 0

    def result(self) -> Tensor:
        """fp32 [B, H * scale, W * scale, C'] on the CPU, 0 to 1.

        When memory runs out, the tiles that are not finished are made smaller. Raises what
        the network, `check_interrupted` and `progress` raise, and `torch.OutOfMemoryError`
        if no smaller tile is possible.
        """
        frames, height, width, _ = self.images.shape
        scale = self.job.scale
        output = new_result(frames, height * scale, width * scale, result_channels(self.ways))
        self._queue(frames)
        overlapping = self.job.device.type != "cpu"
        launched: _Launched | None = None
        while self.waiting or launched is not None:
            before, launched = launched, None
            if self.waiting:
                self.around.check_interrupted()
                launched = self._try(self._next(), self._launch)
            if before is None and not overlapping:
                before, launched = launched, None
            if before is not None:
                self._try(before.pieces, functools.partial(self._finish, before, output))
        return output

    def _queue(self, frames: int) -> None:
        for way, target in zip(self.ways, _offsets(self.ways), strict=True):
            for frame in range(frames):
                for tile in self.plan.tiles:
                    self.waiting.append(_Piece(frame, tile, way, target))
                    self._total += tile.core.pixels

    def _try(self, pieces: list[_Piece], call: Callable[[list[_Piece]], _Launched | None]) -> Any:
        """`call(pieces)`; None if memory ran out, and the pieces wait as smaller ones."""
        try:
            return call(pieces)
        except RuntimeError as error:
            if not is_out_of_any_memory(error):
                raise
            reason = str(error).splitlines()[0]
            # The frames of the failed call hold its tensors.
            error.__traceback__ = None
            smaller = self._smaller(pieces)
            if smaller is None:
                raise
        LOGGER.warning("Upscaling: out of memory (%s). Going on with smaller tiles.", reason)
        self.waiting.extendleft(reversed(smaller))
        self.around.empty_caches()
        return None

    def _next(self) -> list[_Piece]:
        """Up to `batch` pieces that go through the network together."""
        first = self.waiting.popleft()
        if self.largest is not None and first.tile.window.pixels >= self.largest:
            halves = self._halves(first)
            first = halves[0]
            self.waiting.extendleft(reversed(halves[1:]))
        together = [first]
        window = first.tile.window
        while self.waiting and len(together) < self.batch:
            other = self.waiting[0]
            seen = other.tile.window
            if other.way != first.way or (seen.height, seen.width) != (
                window.height,
                window.width,
            ):
                break
            together.append(self.waiting.popleft())
        return together

    def _smaller(self, pieces: list[_Piece]) -> list[_Piece] | None:
        """The same work in smaller calls, or None if there are none."""
        if len(pieces) > 1:
            self.batch = len(pieces) // 2
            return pieces
        halves = self._halves(pieces[0])
        if len(halves) == 1:
            return None
        self.batch = 1
        self.largest = pieces[0].tile.window.pixels
        return halves

    def _halves(self, piece: _Piece) -> list[_Piece]:
        if self.look is not None:  # nobody needed to know how far the model looks
            self.halo, self.look = self.look(), None
        if self.halo is None:
            return [piece]
        parts = self.plan.canvas.split(piece.tile, self.halo)
        return [_Piece(piece.frame, part, piece.way, piece.target) for part in parts]

    def _launch(self, pieces: list[_Piece]) -> _Launched:
        way = pieces[0].way
        windows = [way.gather(self._window(piece)) for piece in pieces]
        pixels = windows[0][None] if len(windows) == 1 else torch.stack(windows)
        del windows
        result = step(self.job, way, self.transfer.upload(pixels.to(torch.float32)))
        return _Launched(pieces, result, self.transfer.ready())

    def _window(self, piece: _Piece) -> Tensor:
        box = piece.tile.window
        frame = self.images[piece.frame]
        if box.bottom > frame.shape[0] or box.right > frame.shape[1]:
            frame = self._padded_frame(piece.frame)
        return frame[box.top : box.bottom, box.left : box.right]

    def _padded_frame(self, index: int) -> Tensor:
        """The frame with the padding that the model needs; the last one is kept."""
        if self._padded is None or self._padded[0] != index:
            self._padded = (index, padded(self.images[index], self.plan.canvas))
        return self._padded[1]

    def _finish(self, launched: _Launched, output: Tensor, _: list[_Piece]) -> None:
        scale = self.job.scale

        def write(first: int, end: int, pixels: Tensor) -> None:
            for row, piece in zip(pixels, launched.pieces, strict=True):
                _write(output, piece, row, (first, end), scale)

        self.transfer.download(launched.result, launched.ready, write)
        self._written += sum(piece.tile.core.pixels for piece in launched.pieces)
        self.around.progress(self._written, self._total)


def _write(
    output: Tensor, piece: _Piece, pixels: Tensor, rows: tuple[int, int], scale: int
) -> None:
    """Write what of a window's `rows` (of the result) is in the tile's core."""
    core, window = piece.tile.core, piece.tile.window
    top = max(rows[0], (core.top - window.top) * scale)
    bottom = min(rows[1], (core.bottom - window.top) * scale)
    if top >= bottom:
        return
    left = (core.left - window.left) * scale
    right = left + core.width * scale
    origin = window.top * scale
    target = output[
        piece.frame,
        origin + top : origin + bottom,
        core.left * scale : core.right * scale,
        piece.target : piece.target + pixels.shape[-1],
    ]
    target.copy_(pixels[top - rows[0] : bottom - rows[0], left:right])


def padded(frame: Tensor, canvas: Canvas) -> Tensor:
    """`frame` [H, W, C] enlarged to what the model needs: mirrored, then repeated."""
    height, width = canvas.padded
    down, right = height - frame.shape[0], width - frame.shape[1]
    mirrored = (min(right, frame.shape[1] - 1), min(down, frame.shape[0] - 1))
    image = frame.movedim(-1, 0)[None]
    image = functional.pad(image, (0, mirrored[0], 0, mirrored[1]), "reflect")
    rest = (0, right - mirrored[0], 0, down - mirrored[1])
    return functional.pad(image, rest, "replicate")[0].movedim(0, -1).contiguous()


def _offsets(ways: tuple[Pass, ...]) -> list[int]:
    return [way.targets[0] for way in ways]
