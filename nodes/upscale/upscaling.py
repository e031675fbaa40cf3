"""From a model and pictures to larger pictures: plan, then run the plan."""

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...inference import stream
from ...inference.budget import DoesNotFitError, Limits
from ...inference.network import Network
from ...inference.stream import TensorSink
from ...inference.transfer import new_result
from ...xpu_runtime.log import LOGGER
from .halo import Halo
from .model import (
    FACES,
    UnsuitableModelError,
    costs_of,
    halo_of,
    loaded,
    needs_of,
    takes_batches,
    takes_mask,
    tile_network,
)
from .placing import locate
from .plan import TilePlan, TileRequest, plan_tiles
from .tile_task import ResizingSink, TileTask
from .tiles import Canvas, ResultSize

if TYPE_CHECKING:
    from ...xpu_runtime.host.types import Descriptor

GOOD_WORK = 1.25
"""Tiles that compute no more than this many times the picture's pixels are good enough to
leave other models where they are; for less work they are evicted."""


def upscale(
    descriptor: "Descriptor",
    images: Tensor,
    size: ResultSize,
    request: TileRequest,
    halo: int | None = None,
) -> Tensor:
    """`enlarge`, wherever the model is."""
    location, handle = locate(descriptor)
    result: Tensor = location.call(enlarge, handle, images, size, request, halo)
    return result


def enlarge(
    descriptor: "Descriptor",
    images: Tensor,
    size: ResultSize,
    request: TileRequest,
    halo: int | None = None,
) -> Tensor:
    """fp32 [B, H', W', C] on the CPU, 0 to 1, from `images` [B, H, W, C] on the CPU.

    `halo` None means the model's own. Raises `UnsuitableModelError`, `ChannelsError`,
    `DoesNotFitError`, `torch.OutOfMemoryError`, and what the model and an interrupt raise; the
    model is then off its device.
    """
    check_suitable(descriptor, images)
    images = images.to("cpu", torch.float32)
    name = descriptor.architecture.name
    with loaded(descriptor) as network:
        plan = plan_run(descriptor, network, images, request, halo)
        LOGGER.info("Upscaling with %s: %s", name, plan.text)
        if plan.remark:
            LOGGER.warning("Upscaling with %s: %s", name, plan.remark)

        def look() -> int | None:
            if descriptor.purpose == FACES:
                return None
            return halo_of(descriptor, network).pixels if halo is None else halo

        task = TileTask(tile_network(descriptor, network), plan, images, look)
        sink = _sink_of(task, size)
        stream.run(task, sink, network.budget, stream.node_ui())
        return sink.result


def _sink_of(task: TileTask, size: ResultSize) -> TensorSink | ResizingSink:
    frames, rows, columns, channels = task.result_shape
    scale = task.network.scale
    wanted = size.of(rows // scale, columns // scale, scale)
    result = new_result(frames, *wanted, channels)
    if wanted == (rows, columns):
        return TensorSink(result)
    return ResizingSink(result, task.result_shape, size)


def check_suitable(descriptor: "Descriptor", images: Tensor) -> None:
    """Raises `UnsuitableModelError` for models that are not made for whole pictures."""
    name = descriptor.architecture.name
    if takes_mask(descriptor):
        raise UnsuitableModelError(
            f"{name} fills masked parts of a picture. Use the node Inpaint with Model (IPEX)."
        )
    if descriptor.purpose == FACES:
        side = max(512, descriptor.size_requirements.minimum)
        height, width = images.shape[1:3]
        if (height, width) != (side, side):
            raise UnsuitableModelError(
                f"{name} restores one aligned face in a picture of {side}x{side}; this picture is "
                f"{width}x{height}. Crop and align the face first, or use an upscale model that "
                "is not made for faces."
            )


def plan_run(
    descriptor: "Descriptor",
    network: Network,
    images: Tensor,
    request: TileRequest,
    halo: int | None,
) -> TilePlan:
    """The plan for `images`; evicts other models if it gains much. The model is loaded.

    Several pictures are computed at once only if the model was seen to take them so. Faces are
    never cut. Raises `DoesNotFitError`.
    """
    plan = _plan(descriptor, network, images, request, halo)
    if plan.batch > 1 and not takes_batches(descriptor, network):
        plan = _plan(descriptor, network, images, TileRequest(request.tile, 1), halo)
    if descriptor.purpose == FACES and len(plan.tiles) > 1:
        raise DoesNotFitError(
            f"{descriptor.architecture.name} needs the whole face at once, and that does not fit "
            f"the free memory of {network.device}. Set tile to 0, close other programs that use "
            "the device, or choose another device in Load Upscale Model (IPEX)."
        )
    return plan


def _plan(
    descriptor: "Descriptor",
    network: Network,
    images: Tensor,
    request: TileRequest,
    halo: int | None,
) -> TilePlan:
    frames, height, width, channels = images.shape
    canvas = Canvas(height, width, needs_of(descriptor))
    costs = costs_of(descriptor, network, channels)
    budget = network.budget

    def look(most: int | None) -> Halo:
        if halo is not None:
            return Halo(halo, exact=False)
        return halo_of(descriptor, network, most)

    def plan(limits: Limits) -> TilePlan:
        return plan_tiles(canvas, frames, look, costs, limits, request)

    ideal = plan(budget.unlimited())
    limits = budget.limits()
    if not limits.fit(ideal.cost):
        with contextlib.suppress(DoesNotFitError):
            tight = plan(limits)
            if limits.small or (tight.work <= GOOD_WORK and not tight.shortened):
                return tight
        budget.make_room(ideal.cost.peak)
        limits = budget.limits()
    return ideal if limits.fit(ideal.cost) else plan(limits)
