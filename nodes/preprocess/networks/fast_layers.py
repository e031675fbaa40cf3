"""Layers that do what torch's do, faster: with channels last on a GPU, and instance norms.

On a GPU torch's own layers copy all maps to and fro.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import Parameter

from ....xpu_runtime import devices

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def kept_last(maps: Tensor) -> bool:
    """Whether `maps` [N, C, H, W] are on a GPU with channels last: then the layers keep them so."""
    last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
    return last and maps.device.type != devices.CPU


class ReflectionPad(nn.Module):
    """nn.ReflectionPad2d with the same padding on all sides.

    Torch's kernel for GPUs knows channels first only, and the next convolution copies its result
    back. This writes maps into the middle of their new place, and the mirrored edges around them.
    """

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, maps: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H + 2p, W + 2p]; H and W are more than p."""
        edge = self.padding
        if not kept_last(maps):
            return functional.pad(maps, (edge,) * 4, mode="reflect")
        count, channels, height, width = maps.shape
        padded = maps.new_empty(count, height + 2 * edge, width + 2 * edge, channels).movedim(-1, 1)
        padded[:, :, edge:-edge, edge:-edge] = maps
        _mirror(padded[..., edge:-edge], edge)
        _mirror(padded.mT, edge)
        return padded


def _mirror(maps: Tensor, edge: int) -> None:
    """Fill the first and the last `edge` rows from those within."""
    maps[:, :, :edge] = maps[:, :, edge + 1 : 2 * edge + 1].flip(2)
    maps[:, :, -edge:] = maps[:, :, -2 * edge - 1 : -edge - 1].flip(2)


class OfPictures(nn.Module):
    """A convolution of pictures, without stride, dilation and padding.

    Libraries read 3 channels slowly: on a GPU it is given a fourth, of zeros.
    """

    def __init__(self, whole: nn.Conv2d) -> None:
        """With the weights of `whole`."""
        super().__init__()
        self.weight = Parameter(
            functional.pad(whole.weight.detach(), (0, 0, 0, 0, 0, 1)), whole.weight.requires_grad
        )
        self.bias = whole.bias

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, C, H - rows + 1, W - columns + 1]."""
        weight = self.weight
        if kept_last(pictures):
            pictures = functional.pad(pictures, (0, 0, 0, 0, 0, 1))
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        else:
            weight = weight[:, :3]
        return functional.conv2d(pictures, weight, self.bias)


class ToOneMap(nn.Module):
    """A convolution to a single map, without stride, dilation and padding.

    Libraries compute many maps at once, and a single one takes as long as 32. Here each row of
    the filter makes a map of its own, and these are added up in fp32, each from its row on.
    """

    def __init__(self, whole: nn.Conv2d) -> None:
        """With the weights of `whole`."""
        super().__init__()
        self.rows = whole.kernel_size[0]
        by_row = whole.weight.detach().permute(2, 1, 0, 3).clone()
        self.weight = Parameter(by_row, whole.weight.requires_grad)
        self.bias = whole.bias

    def forward(self, maps: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, 1, H - rows + 1, W - columns + 1]."""
        height = maps.shape[2] - self.rows + 1
        by_row = functional.conv2d(maps, self.weight)
        total = by_row[:, :1, :height].float()
        for row in range(1, self.rows):
            total = total + by_row[:, row : row + 1, row : row + height]
        return (total if self.bias is None else total + self.bias).to(maps.dtype)


def with_channels_last(network: nn.Module) -> nn.Module:
    """`network` with its reflections, convolutions of pictures and those to one map replaced."""
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.ReflectionPad2d) and len(set(part.padding)) == 1:
                setattr(parent, name, ReflectionPad(part.padding[0]).train(part.training))
            elif isinstance(part, nn.Conv2d) and part.out_channels == 1 and _is_plain(part):
                setattr(parent, name, ToOneMap(part).train(part.training))
            elif isinstance(part, nn.Conv2d) and part.in_channels == 3 and _is_plain(part):
                setattr(parent, name, OfPictures(part).train(part.training))
    return network


def _is_plain(part: nn.Conv2d) -> bool:
    rest = (part.stride, part.dilation, part.padding, part.groups)
    return rest == ((1, 1), (1, 1), (0, 0), 1)


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
