"""From a model and pictures to larger pictures: decide, load, plan, run."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...inference.limits import FREE_SHARE, Limits, largest_tensor, limits_of
from ...inference.surroundings import of_this_node
from ...inference.transfer import new_result
from ...xpu_runtime import devices, host
from ...xpu_runtime.log import LOGGER
from ...xpu_runtime.managed_model import resident
from . import estimates, upscaler
from .channels import passes, result_channels
from .elsewhere import where_it_is
from .halo import Halo
from .masks import kept
from .plan import DoesNotFitError, Plan, Wishes, choose
from .running import Run
from .sizes import Size
from .tiles import Canvas
from .upscaler import Upscaler

GOOD_WORK = 1.25
"""Tiles that compute no more than this many times the picture's pixels are good enough to
leave other models where they are; for less work they are evicted."""

FACES = "FaceSR"
"""What spandrel calls models for one aligned face."""


class UnsuitableModelError(ValueError):
    """A model that this node cannot use, or not with this picture."""


@where_it_is
def upscale(
    descriptor: Any, images: Tensor, size: Size, wishes: Wishes, halo: int | None = None
) -> Tensor:
    """fp32 [B, H', W', C] on the CPU, 0 to 1, from `images` [B, H, W, C] on the CPU.

    `halo` None means the model's own. Raises `UnsuitableModelError`, `ChannelsError`,
    `DoesNotFitError`, and what the model and an interrupt raise; the model is then off its
    device.
    """
    check_suitable(descriptor, images)
    images = images.to("cpu", torch.float32)
    known = upscaler.upscaler_of(descriptor)
    upscaler.settle_dtype(descriptor, known)
    with torch.inference_mode(), resident(known.patcher, 0), kept(descriptor.model):
        plan = planned(descriptor, known, images, wishes, halo)
        LOGGER.info("Upscaling with %s: %s", descriptor.architecture.name, plan.text)
        if plan.remark:
            LOGGER.warning("Upscaling with %s: %s", descriptor.architecture.name, plan.remark)
        return _run(descriptor, known, images, plan, size, halo)


def check_suitable(descriptor: Any, images: Tensor) -> None:
    """Raises `UnsuitableModelError` for models that are not made for whole pictures."""
    name = descriptor.architecture.name
    if descriptor.purpose == "Inpainting":
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


def planned(
    descriptor: Any, known: Upscaler, images: Tensor, wishes: Wishes, halo: int | None
) -> Plan:
    """The plan for `images`; evicts other models if it gains much. The model is loaded.

    Several pictures are computed at once only if the model was seen to take them so. Faces are
    never cut. Raises `DoesNotFitError`.
    """
    plan = _planned(descriptor, known, images, wishes, halo)
    if plan.batch > 1 and not upscaler.takes_batches(descriptor, known):
        plan = _planned(descriptor, known, images, Wishes(wishes.tile, 1), halo)
    if descriptor.purpose == FACES and len(plan.tiles) > 1:
        raise DoesNotFitError(
            f"{descriptor.architecture.name} needs the whole face at once, and that does not fit "
            f"the free memory of {known.device}. Set tile to 0, close other programs that use the "
            "device, or choose another device in Load Upscale Model (IPEX)."
        )
    return plan


def _planned(
    descriptor: Any, known: Upscaler, images: Tensor, wishes: Wishes, halo: int | None
) -> Plan:
    frames, height, width, channels = images.shape
    canvas = Canvas(height, width, upscaler.needs_of(descriptor))
    costs = estimates.costs_of(descriptor, known, channels)
    device = known.device

    def look(most: int | None) -> Halo:
        if halo is not None:
            return Halo(halo, exact=False)
        return upscaler.halo_of(descriptor, known, device, most)

    def plan(limits: Limits) -> Plan:
        return choose(canvas, frames, look, costs, limits, wishes)

    ideal = plan(Limits(1 << 62, largest_tensor(device), device.type == devices.CPU))
    limits = limits_of(device)
    if device.type != devices.CPU and not limits.fit(ideal.cost):
        with contextlib.suppress(DoesNotFitError):
            tight = plan(limits)
            if tight.work <= GOOD_WORK and not tight.shortened:
                return tight
        host.evict(device, int(ideal.cost.peak / FREE_SHARE), keep=known.patcher)
        limits = limits_of(device)
    return ideal if limits.fit(ideal.cost) else plan(limits)


def _run(
    descriptor: Any, known: Upscaler, images: Tensor, plan: Plan, size: Size, halo: int | None
) -> Tensor:
    job = upscaler.job_of(descriptor, known)

    def look() -> int | None:
        if descriptor.purpose == FACES:
            return None
        return upscaler.halo_of(descriptor, known, known.device).pixels if halo is None else halo

    scale = descriptor.scale
    frames, height, width, channels = images.shape
    wanted = size.of(height, width, scale)
    if wanted == (height * scale, width * scale):
        return Run(job, plan, images, of_this_node()(0, 1), look).result()
    outputs = result_channels(passes(channels, *job.channels))
    result = new_result(frames, *wanted, outputs)
    around = of_this_node()
    for first in range(0, frames, plan.batch):
        part = images[first : first + plan.batch]
        share = around(first / frames, (first + len(part)) / frames)
        large = Run(job, plan, part, share, look).result()
        for offset, frame in enumerate(large):
            result[first + offset] = resized(frame, wanted, size.method)
    return result


def resized(frame: Tensor, wanted: tuple[int, int], method: str) -> Tensor:
    """A frame [H, W, C] of 0 to 1 at the height and width that are wanted."""
    smooth = method in ("bicubic", "bilinear")
    result = functional.interpolate(
        frame.movedim(-1, 0)[None], wanted, mode=method, antialias=smooth
    )
    return result[0].movedim(0, -1).clamp_(0, 1)


@where_it_is
def described(descriptor: Any) -> list[str]:
    """Lines about a model, for people. The model is loaded for the halo."""
    return list(description(descriptor))


def description(descriptor: Any) -> Iterator[str]:
    """Lines about a model, for people. The model is loaded for the halo."""
    known = upscaler.upscaler_of(descriptor)
    dtype = upscaler.settle_dtype(descriptor, known)
    yield f"architecture: {descriptor.architecture.name} {' '.join(descriptor.tags)}".rstrip()
    yield f"purpose: {descriptor.purpose}"
    yield f"scale: {descriptor.scale}"
    yield f"channels: {descriptor.input_channels} in, {descriptor.output_channels} out"
    yield f"size: {upscaler.needs_of(descriptor)}"
    support = upscaler.support_of(descriptor, known.device)
    names = ["fp32", *(upscaler.precision.name_of(half) for half in support.dtypes())]
    yield f"device: {known.device}, computes in {upscaler.precision.name_of(dtype)}"
    yield f"possible there: {', '.join(names)}"
    for check in upscaler.checks_of(known):
        yield f"measured: {check.text}"
    if descriptor.purpose in (FACES, "Inpainting"):
        yield "halo: none, the picture is never cut"
        return
    costs = estimates.costs_of(descriptor, known, descriptor.input_channels)
    with torch.inference_mode(), resident(known.patcher, 0):
        yield f"halo: {upscaler.halo_of(descriptor, known, known.device).note}"
        for side in (256, 512, 1024):
            cost = costs(side, side, 1, False)
            yield (
                f"a tile of {side}x{side} takes {cost.peak / 2**20:.0f} MiB, its largest tensor "
                f"{cost.largest / 2**20:.0f} MiB"
            )
