"""Random weights, pictures and references for tests of preprocessors that are networks."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfyui_ipex.nodes.preprocess.method import Batch, Method
from comfyui_ipex.nodes.preprocess.networks import zoe
from networks import photo
from torch import Tensor, nn


def random_weights(
    shapes: Mapping[str, Any], seed: int = 3, gain: float = 1.2
) -> dict[str, Tensor]:
    """Weights with which activations neither vanish nor explode; norms do nothing.

    `shapes` are tensors (on the meta device, for example) by their names.
    """
    source = torch.Generator().manual_seed(seed)
    with torch.device("cpu"):
        return {name: _random(name, like, source, gain) for name, like in shapes.items()}


def _random(name: str, like: Tensor, source: torch.Generator, gain: float) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    if like.ndim > 1:
        numbers = torch.empty(like.shape).normal_(generator=source)
        return numbers.mul_(gain / math.sqrt(like[0].numel()))
    if name.endswith(("bias", "running_mean")):
        return torch.empty(like.shape).normal_(generator=source).mul_(0.05)
    return torch.ones(like.shape)


def save(state: Mapping[str, Tensor], path: Path, *within: str) -> dict[str, Path]:
    """Write a checkpoint, in a mapping of each of the names `within`; what `load` takes."""
    content: Any = dict(state)
    for name in reversed(within):
        content = {name: content}
    torch.save(content, path)
    return {path.name: path}


def pictures(height: int, width: int, count: int = 1) -> Tensor:
    """fp32 [count, 3, height, width]: different parts of a photo, of whole 1/255."""
    return torch.cat([photo(height, width, 10 + 7 * index) for index in range(count)]).movedim(3, 1)


def as_bytes(picture: Tensor) -> np.ndarray:
    """uint8 [H, W, 3] of a picture [3, H, W]: what the reference takes."""
    return (picture * 255).round().byte().movedim(0, -1).numpy()


def batch(images: Tensor) -> Batch:
    """The pictures as a method gets them."""
    return Batch(images)


def off_by(ours: Tensor, reference: np.ndarray) -> float:
    """The largest difference between a hint [C, H, W] and a uint8 picture [H, W, 3], in 1/255."""
    picture = ours.movedim(0, -1).cpu().numpy() * 255
    return float(np.abs(picture - reference.astype(np.float32)).max())


def defaults(method: Method) -> dict[str, Any]:
    """A method's options at their defaults."""
    return {option.name: option.default for option in method.options}


def small_zoe(backbone: str, size: tuple[int, int]) -> nn.Module:
    """Zoe with a smaller backbone, which looks at pictures of about this size."""
    with torch.device("meta"):
        network = zoe.Zoe(backbone, size)
    state = network.network.state_dict()
    weights = {name: value for name, value in state.items() if value.is_floating_point()}
    weights.pop("conditional_log_binomial.log_binomial_transform.K_minus_1")
    known = zoe._known(random_weights(weights, gain=1.0), network)
    return zoe._completed(sharing(network, known))


def sharing(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A network that was made on the meta device, with these very tensors, in eval mode."""
    network.load_state_dict(dict(weights), assign=True)
    return network.eval()
