"""Filling masked parts of pictures with models that take a mask (LaMa, MAT)."""

from typing import Any

import torch
from torch import Tensor

from ...inference.dry_run import Cost, cost_of
from ...inference.limits import FREE_SHARE, Limits, limits_of
from ...inference.surroundings import of_this_node
from ...xpu_runtime import devices, host
from ...xpu_runtime.errors import is_out_of_any_memory
from ...xpu_runtime.managed_model import resident
from . import upscaler
from .elsewhere import where_it_is
from .plan import DoesNotFitError
from .running import padded
from .tiles import Canvas
from .upscaler import Upscaler
from .upscaling import UnsuitableModelError

RGB = 3


@where_it_is
def inpaint(descriptor: Any, images: Tensor, masks: Tensor) -> Tensor:
    """`images` [B, H, W, 1, 3 or 4] with what `masks` [B or 1, H, W] mark (above 0.5) filled in.

    fp32 [B, H, W, 3] on the CPU. Pixels that are not marked stay as they are. Such models look
    at the whole picture, so it is not cut. Raises `UnsuitableModelError` for other models and for
    masks of another size, `DoesNotFitError` if memory is short; the model is then off its device.
    """
    _check(descriptor, images, masks)
    masks = masks.reshape(-1, 1, *masks.shape[-2:])
    known = upscaler.upscaler_of(descriptor)
    upscaler.settle_dtype(descriptor, known)
    images = images[..., :RGB].to("cpu", torch.float32)
    images = images.expand(*images.shape[:-1], RGB)  # gray ones have one channel
    result = images.clone()
    canvas = Canvas(*images.shape[1:3], upscaler.needs_of(descriptor))
    with torch.inference_mode(), resident(known.patcher, 0):
        _make_room(known, cost_of_one(known, canvas), canvas)
        around = of_this_node()(0, 1)
        for index, image in enumerate(images):
            around.check_interrupted()
            mask = (masks[index % len(masks)] > 0.5).float()
            filled = _filled(descriptor, known, image, mask, canvas)
            result[index] = torch.where(mask[0, :, :, None] > 0, filled, image)
            around.progress(index + 1, len(images))
    return result


def _check(descriptor: Any, images: Tensor, masks: Tensor) -> None:
    if descriptor.purpose != "Inpainting":
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


def cost_of_one(known: Upscaler, canvas: Canvas) -> Cost:
    """What one picture takes, found by a dry run and remembered. `settle_dtype` comes first."""
    key = ("inpainting", *canvas.padded)
    if key not in known.costs:
        # One tensor, so that both inputs count; with the padding, so that no copy is missed.
        both = torch.empty(1, RGB + 1, *canvas.padded, dtype=known.dtype, device="meta")
        known.costs[key] = cost_of(lambda both: known.twin(both[:, :RGB], both[:, RGB:]), both)
    return known.costs[key]


def _make_room(known: Upscaler, cost: Cost, canvas: Canvas) -> None:
    """Evict other models if one picture does not fit beside them. Raises `DoesNotFitError`."""
    if known.device.type == devices.CPU or limits_of(known.device).fit(cost):
        return
    host.evict(known.device, int(cost.peak / FREE_SHARE), keep=known.patcher)
    limits = limits_of(known.device)
    if not limits.fit(cost):
        raise _does_not_fit(canvas, cost, limits)


def _does_not_fit(canvas: Canvas, cost: Cost, limits: Limits | None) -> DoesNotFitError:
    free = f"{limits.free / 2**20:.0f} MiB are free" if limits else "less is free"
    return DoesNotFitError(
        f"A picture of {canvas.width}x{canvas.height} takes {cost.peak / 2**20:.0f} MiB, and "
        f"{free}. Inpainting models look at the whole picture, so it is not cut. Make the picture "
        "smaller, close other programs that use the device, or choose the CPU in Load Upscale "
        "Model (IPEX)."
    )


def _filled(
    descriptor: Any, known: Upscaler, image: Tensor, mask: Tensor, canvas: Canvas
) -> Tensor:
    """fp32 [H, W, 3] on the CPU from `image` [H, W, 3] and `mask` [1, H, W]."""
    both = torch.cat([image, mask.movedim(0, -1)], -1)
    both = padded(both, canvas).movedim(-1, 0)[None].to(known.device, known.dtype)
    try:
        result = descriptor(both[:, :RGB], both[:, RGB:])
        return result[0, :, : canvas.height, : canvas.width].movedim(0, -1).to("cpu", torch.float32)
    except RuntimeError as error:
        if not is_out_of_any_memory(error):
            raise
        # The frames of the failed call, and this one, hold its tensors.
        error.__traceback__ = None
        del both
        cost = cost_of_one(known, canvas)
        raise _does_not_fit(canvas, cost, None) from error
