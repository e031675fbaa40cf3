"""A preprocessor whose network is three convolutions, and pictures for it."""

from collections.abc import Mapping
from typing import Any

import networks
import torch
from comfyui_ipex.nodes.preprocess.geometry import geometry
from comfyui_ipex.nodes.preprocess.method import Batch, Hint, Method
from comfyui_ipex.nodes.preprocess.picture_task import HintCall, PictureTask
from streams import hinted
from torch import Tensor, nn

CPU = torch.device("cpu")


class Edges(nn.Module):
    """Three convolutions, as wide as is asked for."""

    def __init__(self, features: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        self.last = nn.Conv2d(features, 1, 3, padding=1)
        numbers = torch.Generator().manual_seed(4)
        for weight in self.parameters():
            weight.data.uniform_(-0.3, 0.3, generator=numbers)
        self.seen: list[int] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen.append(len(pictures))
        return self.last(torch.relu(self.second(torch.relu(self.first(pictures)))))


def run_edges(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    assert network is not None
    return Hint(torch.sigmoid(network(batch.images) * 4))


EDGES = Method("Toy", "Toy Edges", "lines", "For tests.", run_edges, multiple_of=8)


def call_of(
    network: nn.Module, device: torch.device, size: tuple[int, int], **more: Any
) -> HintCall:
    method = more.pop("method", EDGES)
    sizes = geometry(*size, more.pop("resolution", 0), method.multiple_of, **more)
    return HintCall(method, network.eval(), {}, sizes, device)


def pictures(count: int, side: int = 60) -> Tensor:
    return torch.cat([networks.photo(side, side, 10 + 20 * one, 130) for one in range(count)])


def one_by_one(images: Tensor, **more: Any) -> Tensor:
    call = call_of(Edges(), CPU, (images.shape[1], images.shape[2]), **more)
    with torch.inference_mode():
        return hinted(PictureTask(call, 1, images)).pictures
