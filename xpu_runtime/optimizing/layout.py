"""The memory layout of a network's convolution weights."""

import torch
from torch import nn


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """The 2-d convolutions of a network, the host's and torch's own."""
    return [one for one in network.modules() if isinstance(one, nn.Conv2d)]


def is_channels_last(network: nn.Module) -> bool:
    """Whether some weight of a 2-d convolution has its channels last, and not also first."""
    return any(
        conv.weight.is_contiguous(memory_format=torch.channels_last)
        and not conv.weight.is_contiguous()
        for conv in convolutions(network)
    )


def lay_out(network: nn.Module, channels_last: bool) -> None:
    """Put the weights of all 2-d convolutions into one layout. Their numbers do not change."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for conv in convolutions(network):
        if not conv.weight.is_contiguous(memory_format=layout):
            conv.to(memory_format=layout)
