"""GroupNorm for tensors whose channels come last, as one compiled function for all sizes.

torch's own kernel for it takes tensors with channels first: between convolutions whose channels
come last, each norm costs two changes of layout. The sums here are taken in two stages, because
one stage would leave most of a large GPU idle: there are 64 groups in a batch of two.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

STRIPES = 64
"""Parts into which the pixels are cut for the first stage; fewer where they do not divide."""

Norm = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """GroupNorm of `x` [N, stripes, pixels, groups, channels]; the rest is [groups, channels]."""
    numbers = x.float()
    count = x.shape[1] * x.shape[2] * x.shape[4]
    mean = numbers.sum(2).sum((1, 3)) / count
    square = (numbers * numbers).sum(2).sum((1, 3)) / count
    scale = torch.rsqrt((square - mean * mean).clamp(min=0.0) + eps)[:, None, None, :, None]
    result = (numbers - mean[:, None, None, :, None]) * scale
    return (result * weight.float() + bias.float()).to(x.dtype)


def norm_silu(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`norm`, then SiLU."""
    result = norm(x, weight, bias, eps).float()
    return (result * torch.sigmoid(result)).to(x.dtype)


def applies(module: Any, x: Tensor) -> bool:
    """Whether `group_norm` computes what the GroupNorm `module` makes of `x`."""
    if x.dim() != 4 or module.weight is None or module.weight.dtype != x.dtype:
        return False
    if getattr(module, "comfy_cast_weights", False) or getattr(module, "weight_function", None):
        return False
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return last and module.weight.device == x.device


def group_norm(call: Norm, module: Any, x: Tensor) -> Tensor:
    """The GroupNorm `module` of `x` [N, C, H, W], computed by `call`, with its channels last."""
    batch, channels, height, width = x.shape
    stripes = math.gcd(height * width, STRIPES)
    if stripes == height * width and stripes % 2 == 0:
        stripes //= 2  # code for a size of one is compiled apart
    shape = (batch, stripes, height * width // stripes, module.num_groups, -1)
    parts = x.permute(0, 2, 3, 1).reshape(shape)
    weight, bias = (one.data.view(module.num_groups, -1) for one in (module.weight, module.bias))
    result = call(parts, weight, bias, module.eps)
    return result.view(batch, height, width, channels).permute(0, 3, 1, 2)


def starts_with_norm_and_silu(module: nn.Module) -> bool:
    """Whether a module is a sequence that begins with a GroupNorm and a SiLU."""
    if not isinstance(module, nn.Sequential) or len(module) < 2:
        return False
    return isinstance(module[0], nn.GroupNorm) and isinstance(module[1], nn.SiLU)
