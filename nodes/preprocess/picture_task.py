"""Pictures through a preprocessor, several at once; each hint is written once."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference.stream import SILENT, FrameTask
from ...xpu_runtime.optimizing.blocks import is_compiled
from . import geometry
from .geometry import Geometry
from .method import Batch, Hint, Method, Options


class WrongHintError(RuntimeError):
    """A preprocessor gave something else than pictures of the size that it was given."""


@dataclass(frozen=True)
class HintCall:
    method: Method
    module: nn.Module | None
    """The network, on `device`; None for methods without weights."""
    options: Options
    sizes: Geometry
    device: torch.device


def compute_hint(
    call: HintCall,
    pixels: Tensor,
    masks: Tensor | None,
    first: int = 0,
    check_interrupted: Callable[[], None] = SILENT.check_interrupted,
) -> Hint:
    """One call: fp32 pixels [N, H, W, C] on the device -> a hint of the result's size.

    `masks`: fp32 [N or 1, 1, H, W]. This is also what runs dry for the plan. Raises
    `WrongHintError`.
    """
    sizes, method = call.sizes, call.method
    images = geometry.prepared(geometry.rgb(pixels.movedim(-1, 1)), sizes)
    del pixels
    spec = method.network(call.options)
    if spec is not None:
        images = images.contiguous(memory_format=spec.layout(images.device))
    if masks is not None:
        masks = _fit_masks(masks, sizes)
    batch = Batch(images, first, masks, check_interrupted)
    hint = method.make_hint(call.module, batch, call.options)
    shape = tuple(hint.pictures.shape)
    if shape not in [(len(images), channels, *sizes.padded) for channels in (1, 3)]:
        raise WrongHintError(
            f"{method.title} made {shape} of {tuple(images.shape)}. This is a mistake in this "
            "extension: please report it."
        )
    pictures = geometry.finished(hint.pictures.float(), sizes)
    return Hint(pictures, tuple(scale_pose(pose, sizes) for pose in hint.poses))


def _fit_masks(masks: Tensor, sizes: Geometry) -> Tensor:
    if tuple(masks.shape[-2:]) != sizes.computed:
        masks = functional.interpolate(masks, sizes.computed, mode="bilinear")
    return geometry.prepared(masks, sizes)


def scale_pose(pose: Mapping[str, Any], sizes: Geometry) -> dict[str, Any]:
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


class PictureTask(FrameTask):
    title = "Preprocessing"

    def __init__(
        self,
        call: HintCall,
        chunk: int,
        images: Tensor,
        masks: Tensor | None = None,
        check_interrupted: Callable[[], None] = SILENT.check_interrupted,
        measure: Callable[[int], int] | None = None,
    ) -> None:
        """`images`: fp32 [B, H, W, C] on the CPU; `masks`: fp32 [B or 1, 1, H, W] on the CPU.

        `chunk`: pictures that go at once. `measure` is the stream's.
        """
        super().__init__(images, call.sizes.result, 3)
        self.call = call
        self.device = call.device
        self.at_once = chunk
        self.measure = measure
        self.masks = masks
        self.poses: list[dict[str, Any]] = [{} for _ in images] if call.method.gives_poses else []
        """Of each picture, in POSE_KEYPOINT's form."""
        self._check_interrupted = check_interrupted

    def inputs(self, pieces: list[int]) -> tuple[Tensor, ...]:
        """Pixels [N, H, W, C], and masks [N or 1, 1, H, W] for methods that take some."""
        chosen = slice(pieces[0], pieces[-1] + 1)
        pixels = self.images[chosen].float()
        if self.masks is None:
            return (pixels,)
        masks = self.masks if len(self.masks) == 1 else self.masks[chosen]
        return pixels, masks.contiguous().float()

    def compute(self, pieces: list[int], inputs: tuple[Tensor, ...]) -> Tensor:
        """The hints, fp32 [N, H, W, 1 or 3]; poses are noted."""
        pixels, masks = (*inputs, None)[:2]
        assert pixels is not None
        hint = compute_hint(self.call, pixels, masks, pieces[0], self._check_interrupted)
        if self.call.method.gives_poses:
            self.poses[pieces[0] : pieces[-1] + 1] = hint.poses
        return hint.pictures.movedim(1, -1)

    def too_large(self) -> str:
        height, width = self.call.sizes.padded
        return (
            f"{self.call.method.title} ran out of memory on {self.device} with one picture of "
            f"{width}x{height}. Set a smaller resolution, choose another device, or close other "
            "programs that use this one."
        )


@contextlib.contextmanager
def checking_layers(call: HintCall, check_interrupted: Callable[[], None]) -> Iterator[None]:
    """On a CPU, where a picture may take minutes, check before each layer."""
    hooks = [
        layer.register_forward_pre_hook(lambda *_: check_interrupted())
        for layer in _checked_layers(call)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _checked_layers(call: HintCall) -> list[nn.Module]:
    if call.module is None or call.device.type != "cpu":
        return []
    parts = list(call.module.modules())
    # TorchScript has no layers to hook, and for torch's compiler a network with hooks is another.
    if any(isinstance(part, torch.jit.ScriptModule) or is_compiled(part) for part in parts):
        return []
    return [part for part in parts if not any(part.children())]
