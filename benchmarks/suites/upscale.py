"""Upscaling against the host's own node in the same process: time, agreement, memory.

Weights are random, so that nothing need be downloaded. The error is the largest difference, in
255ths, from the same network run untiled in fp32 without TF32 on the same device.
"""

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from ...inference import precision
from ...nodes.upscale import model as models
from ...nodes.upscale import upscaling
from ...nodes.upscale.plan import PLANNED
from ...xpu_runtime.host.types import Descriptor
from ..case import NO_DTYPE, Case, CaseSettings, Side, Trial
from .upscale_networks import descriptor, pictures

QUICK = ("compact:64", "compact:2x48")
CPU = ("compact:256", "compact:512")
GPU = (
    *("compact:1024", "compact:2048", "compact:8x512", "rrdb:512", "rrdb:1024", "rrdb:8x512"),
    *("span:1024", "swinir:256", "dat:256"),
)
"""An architecture, and the pictures' size: a side, or frames x side."""

CONVOLUTIONAL = ("compact", "rrdb", "span")

REFERENCE_PIXELS = 2 << 20
"""Above this the untiled fp32 reference of an attention network takes too long."""


def cases() -> list[Case]:
    return [
        Case(
            name,
            "our node against the host's: pictures on the CPU in and out",
            functools.partial(_upscaling, name),
            NO_DTYPE,
            quick=name in QUICK,
            gpu_only=name in GPU,
            error_unit="255ths",
        )
        for name in (*QUICK, *CPU, *GPU)
    ]


def host_call(
    model: Descriptor, images: torch.Tensor, device: torch.device
) -> Callable[[], torch.Tensor]:
    """A run of the host's own node, whose model management is told of the model as its loader
    tells it."""
    management = import_module("comfy.model_management")
    model.patcher = import_module("comfy.model_patcher").ModelPatcher(
        model.model, device, management.unet_offload_device()
    )
    node = import_module("comfy_extras.nodes_upscale_model").ImageUpscaleWithModel()
    run = getattr(node, "upscale", None) or node.execute
    return lambda: run(model, images)[0]


def untiled(model: Descriptor, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """fp32 without tiles and without TF32, one picture after the other."""
    model.model.to(device)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        results = [
            model(image[None].movedim(-1, 1).to(device)).movedim(1, -1).cpu() for image in images
        ]
    finally:
        torch.backends.cudnn.allow_tf32 = before
        model.model.cpu()
    return torch.cat(results)


def largest(result: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest difference in 255ths."""
    return float((result - reference).abs().max() * 255)


def _upscaling(name: str, settings: CaseSettings) -> Trial:
    architecture, _, size = name.partition(":")
    frames, side = (int(part) for part in (size if "x" in size else f"1x{size}").split("x"))
    images = pictures(frames, side, side)
    can_be_whole = architecture in CONVOLUTIONAL or side * side <= REFERENCE_PIXELS
    reference = untiled(descriptor(architecture), images, settings.device) if can_be_whole else None
    theirs = host_call(descriptor(architecture), images, settings.device)
    model = descriptor(architecture)
    network = models.manage(model, settings.device, "auto")

    def facts() -> dict[str, Any]:
        with models.loaded(model):
            plan = upscaling.plan_run(model, network, images, PLANNED, None)
        found = {
            "dtype": precision.name_of(network.settle()),
            "predicted MiB": round(plan.cost.peak / (1 << 20), 1),
            "plan": plan.text,
        }
        if reference is not None and not settings.emulated:
            found["host error /255"] = round(largest(theirs(), reference), 3)
        return found

    return Trial(
        Side("ours", lambda: upscaling.upscale(model, images, upscaling.ResultSize(), PLANNED)),
        Side("ComfyUI's node", theirs),
        expected=None if reference is None else lambda: reference,
        differ=largest,
        facts=facts,
    )
