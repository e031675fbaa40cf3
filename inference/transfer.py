"""Pixels to a device and back, so that the device need not wait for the copies.

Copies go through two small pinned buffers and a stream of their own: while one part is on its
way, the CPU writes the one before it, and the device computes the next tile. Pinned memory is
bounded whatever the pictures' size. On the CPU nothing is copied.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch
from torch import Tensor

PART_BYTES = 8 << 20
"""Each of the two pinned buffers, and what is copied at once: while one part is on its way, the
CPU reads or writes the next."""

Write = Callable[[int, int, Tensor], None]
"""(first row, end, pixels): takes [N, end - first, W, C] on the CPU, and keeps no view."""


class Transfer:
    """The way to one device and back. Not for several threads at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._backend: Any = None if device.type == "cpu" else getattr(torch, device.type)
        self._stream: Any = None if self._backend is None else self._backend.Stream(device=device)
        self._pinned: list[Tensor] = []

    def upload(self, pixels: Tensor) -> Tensor:
        """fp32 pixels on the device; the copy does not wait for what the device computes."""
        if self._backend is None:
            return pixels
        there = torch.empty(pixels.shape, dtype=pixels.dtype, device=self.device)
        at_once = max(1, PART_BYTES * len(pixels) // max(1, pixels.nbytes))
        for part, target in zip(pixels.split(at_once), there.split(at_once), strict=True):
            pinned = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
            # The pinned block is kept by torch's allocator until the copy has been made.
            target.copy_(pinned.copy_(part), non_blocking=True)
        return there

    def ready(self) -> Any:
        """A mark behind what the device has been asked to do so far; None on the CPU."""
        if self._backend is None:
            return None
        event = self._backend.Event()
        event.record(self._backend.current_stream(self.device))
        return event

    def download(self, pixels: Tensor, ready: Any, write: Write) -> None:
        """Hand `pixels`, [N, H, W, C] and complete at `ready`, to `write` in bands of rows."""
        if self._backend is None:
            write(0, pixels.shape[1], pixels)
            return
        self._stream.wait_event(ready)
        pending: list[tuple[int, int, Tensor, Any]] = []
        for index, (first, end) in enumerate(self._bands(pixels)):
            if len(pending) == 2:
                self._finish(pending.pop(0), write)
            pending.append((first, end, *self._start(pixels[:, first:end], index % 2)))
        for one in pending:
            self._finish(one, write)

    def _bands(self, pixels: Tensor) -> Iterator[tuple[int, int]]:
        frames, height, width, channels = pixels.shape
        rows = max(1, PART_BYTES // (frames * width * channels * pixels.element_size()))
        for first in range(0, height, rows):
            yield first, min(height, first + rows)

    def _start(self, band: Tensor, slot: int) -> tuple[Tensor, Any]:
        while len(self._pinned) <= slot:
            self._pinned.append(torch.empty(0))
        kept = self._pinned[slot]
        if kept.numel() < band.numel() or kept.dtype != band.dtype:
            self._pinned[slot] = torch.empty(band.numel(), dtype=band.dtype, pin_memory=True)
        target = self._pinned[slot][: band.numel()].view(band.shape)
        with self._backend.stream(self._stream):
            target.copy_(band, non_blocking=True)
            arrived = self._backend.Event()
            arrived.record(self._stream)
        return target, arrived

    def _finish(self, one: tuple[int, int, Tensor, Any], write: Write) -> None:
        first, end, target, arrived = one
        arrived.synchronize()
        write(first, end, target)


class TooLargeError(RuntimeError):
    """Pictures that the computer's memory does not hold."""


def check_room(*shape: int) -> None:
    """Raise `TooLargeError` if pictures fp32 [B, H, W, C] are more than the memory that is free."""
    count, height, width = shape[:3]
    check_memory(4 * math.prod(shape), f"{count} picture(s) of {width}x{height}")


def check_memory(need: int, what: str) -> None:
    """Raise `TooLargeError` if `need` bytes, for `what`, are more than the memory that is free.

    The machine would hand out more than it has, and end the process when it is written to.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    if need > free:
        raise TooLargeError(
            f"{what} take {need / 2**30:.1f} GiB, and this computer has {free / 2**30:.1f} GiB of "
            "memory available. Choose a smaller size, or fewer pictures at once."
        )


def new_result(*shape: int) -> Tensor:
    """An fp32 tensor on the CPU, not initialised, that is fast to write for the first time.

    Raises `TooLargeError`.

    numpy asks the machine for large pages (madvise) and torch does not. On a machine with 16
    cores, writing 200 MB for the first time took 7 ms so, and 18 ms in torch's own.
    """
    check_room(*shape)
    return torch.from_numpy(numpy.empty(shape, numpy.float32))
