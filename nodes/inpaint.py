"""Filling masked parts of pictures with models that take a mask (LaMa, MAT)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..inference import stream
from ..inference.budget import DoesNotFitError
from ..inference.dry_run import Cost, cost_of
from ..inference.network import Network
from ..inference.stream import FrameTask, Region, TensorSink
from ..xpu_runtime import devices
from .upscale.model import UnsuitableModelError, loaded, needs_of, takes_mask, with_module
from .upscale.placing import locate
from .upscale.tile_task import padded
from .upscale.tiles import Canvas

if TYPE_CHECKING:
    from ..xpu_runtime.host.types import Descriptor

RGB = 3

REMEDY = (
    "Inpainting models look at the whole picture, so it is not cut. Make the picture smaller, "
    "close other programs that use the device, or choose the CPU in Load Upscale Model (IPEX)."
)


def inpaint(descriptor: "Descriptor", images: Tensor, masks: Tensor) -> Tensor:
    """`fill`, wherever the model is."""
    location, handle = locate(descriptor)
    result: Tensor = location.call(fill, handle, images, masks)
    return result


def fill(descriptor: "Descriptor", images: Tensor, masks: Tensor) -> Tensor:
    """`images` [B, H, W, 1, 3 or 4] with what `masks` [B or 1, H, W] mark (above 0.5) filled in.

    fp32 [B, H, W, 3] on the CPU. Pixels that are not marked stay as they are. Raises
    `UnsuitableModelError` for other models and for masks of another size, `DoesNotFitError` and
    `torch.OutOfMemoryError` if memory is short, and what an interrupt raises; the model is then
    off its device.
    """
    check_suitable(descriptor, images, masks)
    images = images[..., :RGB].to("cpu", torch.float32)
    images = images.expand(*images.shape[:-1], RGB)  # gray ones have one channel
    marked = (masks.reshape(-1, *masks.shape[-2:], 1) > 0.5).to("cpu")
    sink = MaskedSink(images.clone(), marked)
    with loaded(descriptor) as network:
        task = WholeTask(descriptor, network, images, marked)
        task.plan()
        stream.run(task, sink, network.budget, stream.node_ui())
        return sink.result


def check_suitable(descriptor: "Descriptor", images: Tensor, masks: Tensor) -> None:
    """Raises `UnsuitableModelError` for models and masks that do not go with the pictures."""
    if not takes_mask(descriptor):
        raise UnsuitableModelError(
            f"{descriptor.architecture.name} takes no mask. Load an inpainting model such as LaMa "
            "or MAT, or use Upscale Image (IPEX)."
        )
    count = masks.shape[:-2].numel()
    if masks.shape[-2:] != images.shape[1:3] or count not in (1, len(images)):
        raise UnsuitableModelError(
            f"{count} mask(s) of {masks.shape[-1]}x{masks.shape[-2]} do not fit {len(images)} "
            f"picture(s) of {images.shape[2]}x{images.shape[1]}. Resize the mask to the picture."
        )


class MaskedSink(TensorSink):
    """Writes where a mask marks; other pixels of the result stay as they are."""

    def __init__(self, result: Tensor, marked: Tensor) -> None:
        """`result`: fp32 [B, H, W, C] on the CPU; `marked`: bool [B or 1, H, W, 1]."""
        super().__init__(result)
        self._marked = marked.expand(len(result), -1, -1, -1)

    def reserve(self, region: Region) -> None:
        """The result has its memory: it holds the pictures."""

    def write(self, region: Region, pixels: Tensor) -> None:
        frames, rows, columns, _ = region.slices
        target = self.result[region.slices]
        marked = self._marked[frames, rows, columns]
        target.copy_(torch.where(marked, pixels.to(torch.float32), target))


class WholeTask(FrameTask):
    """Pictures that a network sees whole, one a call."""

    title = "Inpainting"
    at_once = 1
    measure = None

    def __init__(
        self, descriptor: "Descriptor", network: Network, images: Tensor, marked: Tensor
    ) -> None:
        """`images`: fp32 [B, H, W, 3] on the CPU; `marked`: bool [B or 1, H, W, 1]."""
        super().__init__(images, (images.shape[1], images.shape[2]), RGB)
        self.descriptor = descriptor
        self.network = network
        self.device = network.device
        self.marked = marked
        self.canvas = Canvas(images.shape[1], images.shape[2], needs_of(descriptor))

    def plan(self) -> None:
        """Make room for one picture. Raises `DoesNotFitError`."""
        cost = self.cost()
        budget = self.network.budget
        if cost is None or self.device.type == devices.CPU or budget.limits().fit(cost):
            return
        budget.make_room(cost.peak)
        limits = budget.limits()
        if not limits.fit(cost):
            raise DoesNotFitError(
                f"A picture of {self.canvas.width}x{self.canvas.height} takes "
                f"{cost.peak / 2**20:.0f} MiB, and {limits.free / 2**20:.0f} MiB are free. {REMEDY}"
            )

    def cost(self) -> Cost | None:
        """What one picture takes, by a dry run; None for a network that cannot run dry."""
        meta, dtype = self.network.meta, self.network.dtype
        if meta is None:
            return None
        dry = with_module(self.descriptor, meta)

        def count() -> Cost:
            # One tensor, so that both inputs count; with the padding, so that no copy is missed.
            both = torch.empty(1, RGB + 1, *self.canvas.padded, dtype=dtype, device="meta")
            return cost_of(lambda both: dry(both[:, :RGB], both[:, RGB:]), both)

        return self.network.facts.find(("inpainting", *self.canvas.padded), count)

    def inputs(self, pieces: list[int]) -> tuple[Tensor, ...]:
        """Picture and mask in one: [1, H, W, 4], padded."""
        (index,) = pieces
        marked = self.marked[index % len(self.marked)].float()
        return (padded(torch.cat([self.images[index], marked], -1), self.canvas)[None],)

    def compute(self, pieces: list[int], inputs: tuple[Tensor, ...]) -> Tensor:
        """The picture with its marked parts filled: [1, H, W, 3] in the network's dtype."""
        both = inputs[0].movedim(-1, 1).to(self.network.dtype)
        result = self.descriptor(both[:, :RGB], both[:, RGB:])
        return result[:, :, : self.canvas.height, : self.canvas.width].movedim(1, -1)

    def too_large(self) -> str:
        size = f"{self.canvas.width}x{self.canvas.height}"
        return f"Inpainting ran out of memory on {self.device} with a picture of {size}. {REMEDY}"
