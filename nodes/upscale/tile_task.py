"""Pictures in tiles: windows go through the network, and each tile's core is written once."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ...inference.stream import Placing, Region, TensorSink
from ...inference.transfer import new_result
from .channels import Pass, passes, result_channels
from .plan import TilePlan
from .tiles import Canvas, ResultSize, Tile


@dataclass(frozen=True)
class TileNetwork:
    """How a network is called with pictures."""

    call: Callable[[Tensor], Tensor]
    """[N, C, H, W] in `dtype` -> [N, C', H * scale, W * scale], 0 to 1."""
    scale: int
    channels: tuple[int, int]
    """Of inputs and outputs."""
    dtype: torch.dtype
    device: torch.device


def compute_tiles(network: TileNetwork, way: Pass, pixels: Tensor) -> Tensor:
    """One call: fp32 pixels [N, H, W, C] on the device -> [N, H * scale, W * scale, C'].

    The result has the network's dtype: so less of it goes to the CPU, which makes it fp32 while
    it writes. The input stays a view of pixels that lie side by side (channels_last):
    convolutions are faster so, on CPUs too. This is also what runs dry for the plan.
    """
    image = pixels.movedim(-1, 1).to(network.dtype)
    del pixels
    result = way.scatter(network.call(image)).movedim(1, -1)
    return result if network.device.type == "cpu" else result.contiguous()


@dataclass(frozen=True)
class TilePiece:
    """One tile of one frame, in one pass."""

    frame: int
    tile: Tile
    way: Pass

    @property
    def window_size(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        return self.tile.window.height, self.tile.window.width


class TileTask:
    title = "Upscaling"
    measure = None

    def __init__(
        self,
        network: TileNetwork,
        plan: TilePlan,
        images: Tensor,
        look: Callable[[], int | None] | None = None,
    ) -> None:
        """`images`: fp32 [B, H, W, C] on the CPU, of the plan's size.

        `look` finds the halo in pixels if pictures that were planned whole must be cut after
        all, None where they must not; without it, the plan's halo serves.
        """
        self.network = network
        self.device = network.device
        self.plan = plan
        self.images = images
        self.ways = passes(images.shape[-1], *network.channels)
        self.at_once = plan.batch
        self._halo: int | None = plan.halo.pixels
        self._look = look if len(plan.tiles) == 1 else None
        self._padded: tuple[int, Tensor] | None = None

    @property
    def result_shape(self) -> tuple[int, int, int, int]:
        """[B, H * scale, W * scale, C']."""
        frames, height, width, _ = self.images.shape
        scale = self.network.scale
        return frames, height * scale, width * scale, result_channels(self.ways)

    def pieces(self) -> Iterator[TilePiece]:
        """A batch of frames after the other, so that early frames are finished early."""
        frames = len(self.images)
        for first in range(0, frames, self.plan.batch):
            for way in self.ways:
                for frame in range(first, min(frames, first + self.plan.batch)):
                    for tile in self.plan.tiles:
                        yield TilePiece(frame, tile, way)

    def goes_with(self, last: TilePiece, other: TilePiece) -> bool:
        """Calls are for windows of one size, in one pass."""
        return other.way == last.way and other.window_size == last.window_size

    def size(self, piece: TilePiece) -> int:
        return piece.tile.window.pixels

    def split(self, piece: TilePiece) -> list[TilePiece]:
        """Two tiles of half the core, if their windows are smaller."""
        if self._look is not None:  # nobody needed to know how far the model looks
            self._halo, self._look = self._look(), None
        if self._halo is None:
            return [piece]
        parts = self.plan.canvas.split(piece.tile, self._halo)
        return [TilePiece(piece.frame, part, piece.way) for part in parts]

    def inputs(self, pieces: list[TilePiece]) -> tuple[Tensor, ...]:
        """The windows: [N, H, W, C]."""
        way = pieces[0].way
        windows = [way.gather(self._window(piece)) for piece in pieces]
        pixels = windows[0][None] if len(windows) == 1 else torch.stack(windows)
        return (pixels.to(torch.float32),)

    def compute(self, pieces: list[TilePiece], inputs: tuple[Tensor, ...]) -> Tensor:
        return compute_tiles(self.network, pieces[0].way, *inputs)

    def placing(self, piece: TilePiece) -> Placing:
        """The core, enlarged."""
        core, window, scale = piece.tile.core, piece.tile.window, self.network.scale
        region = Region(
            piece.frame,
            piece.frame + 1,
            core.top * scale,
            core.bottom * scale,
            core.left * scale,
            core.right * scale,
            piece.way.targets[0],
            len(piece.way.targets),
        )
        return Placing(region, (core.top - window.top) * scale, (core.left - window.left) * scale)

    def too_large(self) -> str:
        return (
            f"Upscaling ran out of memory on {self.device} with a tile that cannot be made "
            "smaller. Close other programs that use this device, or choose another device in Load "
            "Upscale Model (IPEX)."
        )

    def _window(self, piece: TilePiece) -> Tensor:
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


def padded(frame: Tensor, canvas: Canvas) -> Tensor:
    """`frame` [H, W, C] enlarged to what the model needs: mirrored, then repeated."""
    height, width = canvas.padded
    down, right = height - frame.shape[0], width - frame.shape[1]
    mirrored = (min(right, frame.shape[1] - 1), min(down, frame.shape[0] - 1))
    image = frame.movedim(-1, 0)[None]
    image = functional.pad(image, (0, mirrored[0], 0, mirrored[1]), "reflect")
    rest = (0, right - mirrored[0], 0, down - mirrored[1])
    return functional.pad(image, rest, "replicate")[0].movedim(0, -1).contiguous()


class ResizingSink:
    """Collects each frame of a task in the model's own scale, and writes it in another size.

    A frame in the model's scale is held from its first pixel to its last.
    """

    def __init__(self, result: Tensor, large: tuple[int, int, int, int], size: ResultSize) -> None:
        """`result`: fp32 [B, H, W, C] on the CPU; `large`: the shape in the model's own scale."""
        self.result = result
        self._shape = large[1:]
        self._method = size.method
        self._frames: dict[int, TensorSink] = {}
        self._missing: dict[int, int] = {}
        """Numbers of each frame that are not written yet."""

    def reserve(self, region: Region) -> None:
        for frame in range(region.first, region.end):
            self._sink(frame).reserve(replace(region, first=0, end=1))

    def write(self, region: Region, pixels: Tensor) -> None:
        for frame, one in zip(range(region.first, region.end), pixels, strict=True):
            self._sink(frame).write(replace(region, first=0, end=1), one[None])

    def finish(self, region: Region) -> None:
        """Resize frames that are complete."""
        for frame in range(region.first, region.end):
            self._missing[frame] -= region.pixels // (region.end - region.first) * region.channels
            if self._missing[frame] == 0:
                large = self._frames.pop(frame).result[0]
                height, width = self.result.shape[1:3]
                self.result[frame] = resized(large, (height, width), self._method)

    def _sink(self, frame: int) -> TensorSink:
        if frame not in self._frames:
            self._frames[frame] = TensorSink(new_result(1, *self._shape))
            self._missing[frame] = math.prod(self._shape)
        return self._frames[frame]


def resized(frame: Tensor, wanted: tuple[int, int], method: str) -> Tensor:
    """A frame [H, W, C] of 0 to 1 at the height and width that are wanted."""
    smooth = method in ("bicubic", "bilinear")
    result = functional.interpolate(
        frame.movedim(-1, 0)[None], wanted, mode=method, antialias=smooth
    )
    return result[0].movedim(0, -1).clamp_(0, 1)
