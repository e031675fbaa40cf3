"""Instance norms without weights, quick where channels come last."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....xpu_runtime import devices
from .channels_last import kept_last

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


class InstanceNorm(nn.Module):
    """What nn.InstanceNorm2d without weights computes: each map of [N, C, H, W] with mean 0 and
    deviation 1.

    What it is given is overwritten on the CPU: it must be read by nobody else. There, a group norm
    with a channel a group takes a quarter of the time, and keeps channels that come last where
    they are. It takes the variance from the sum of squares, which fails where a map is far from
    0 and nearly flat, so the mean is taken off first. On a GPU torch's own copies maps whose
    channels come last to and fro, so that they are multiplied and added to instead; what that
    rounds in half precision is the share of the mean that the maps themselves are rounded by.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        if kept_last(maps):
            variance, mean = torch.var_mean(maps, (2, 3), correction=0, keepdim=True)
            scale = torch.rsqrt(variance.float() + self.eps)
            return torch.addcmul((-mean * scale).to(maps), maps, scale.to(maps))
        if maps.device.type != devices.CPU:
            return functional.instance_norm(maps, eps=self.eps)
        maps = maps.sub_(maps.mean((2, 3), keepdim=True))
        return functional.group_norm(maps, maps.shape[1], eps=self.eps)


def with_quick_norms(network: nn.Module) -> nn.Module:
    """`network` with all its instance norms replaced. Each must follow a convolution.

    Convolutions lose what they add to each map, since the norm after them takes it off again.
    """
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            plain = isinstance(part, nn.InstanceNorm2d) and not part.affine
            if plain and not part.track_running_stats:
                setattr(parent, name, InstanceNorm(part.eps).train(part.training))
        if isinstance(parent, nn.Sequential):
            for before, after in itertools.pairwise(parent):
                if isinstance(after, InstanceNorm) and isinstance(before, _CONVOLUTIONS):
                    before.bias = None
    return network
