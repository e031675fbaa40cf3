"""Networks with random weights, and pictures, for `upscale.py` and `preprocess.py`."""

from collections.abc import Callable
from typing import Any


def network(name: str) -> Any:
    """A freshly initialised network of the architecture `name`."""
    from spandrel.architectures.Compact import Compact
    from spandrel.architectures.DAT import DAT
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
    from spandrel.architectures.SPAN import SPAN
    from spandrel.architectures.SwinIR import SwinIR

    makers: dict[str, Callable[[], Any]] = {
        "compact": lambda: Compact(num_feat=64, num_conv=32, upscale=4, act_type="prelu"),
        "rrdb": lambda: RRDBNet(num_filters=64, num_blocks=23, scale=4),
        "span": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=48, upscale=4),
        "swinir": lambda: SwinIR(
            upscale=4,
            window_size=8,
            depths=[6] * 6,
            embed_dim=180,
            num_heads=[6] * 6,
            mlp_ratio=2,
            upsampler="pixelshuffle",
            resi_connection="1conv",
        ),
        "dat": lambda: DAT(
            upscale=2,
            embed_dim=60,
            split_size=[8, 32],
            depth=[18],
            num_heads=[6],
            expansion_factor=2,
            resi_connection="3conv",
            upsampler="pixelshuffledirect",
        ),
    }
    return makers[name]()


def descriptor(name: str) -> Any:
    """A spandrel model with random weights whose result fills the range of a picture."""
    import torch
    from spandrel import ModelLoader

    torch.manual_seed(7)
    made = network(name)
    state = {key: value.clone() for key, value in made.state_dict().items()}
    model = ModelLoader().load_from_state_dict(state).eval()
    weight, bias = list(model.model.parameters())[-2:]
    with torch.no_grad():
        result = model.model(pictures(1, 64, 64).movedim(-1, 1))
        factor = 0.15 / float(result.std())
        if name != "compact":  # which adds the picture to its last layer's result
            weight.mul_(factor)
            bias.sub_(float(result.mean())).mul_(factor).add_(0.5)
    return model


def pictures(frames: int, height: int, width: int) -> Any:
    """fp32 [frames, height, width, 3], smooth with noise, always the same."""
    import torch

    generator = torch.Generator().manual_seed(1)
    y, x = torch.linspace(0, 9, height)[:, None], torch.linspace(0, 7, width)
    smooth = ((y.sin() * x.cos() + 1) / 2)[None, :, :, None]
    noise = torch.rand(frames, height, width, 3, generator=generator)
    return smooth * 0.7 + noise * 0.3
