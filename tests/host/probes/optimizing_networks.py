"""Runs inside a host's process on an emulated card: upscalers and preprocessors, optimised.

usage: optimizing_networks.py EXTENSION MODELS        (working directory: the host's tree)
Prints one line of JSON: for each kind, whether pictures are the same and the input as it was.
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

# First: it makes the host importable and parses the arguments.
from placing import close

import comfy.model_management as mm  # isort: skip
import torch
from toy_preprocessors import made

import nodes

NODES = nodes.NODE_CLASS_MAPPINGS

PACKAGE = NODES["IpexOptimize"].__module__.rpartition(".nodes.")[0]

WISHES = {
    "backend": "auto",
    "channels_last": "on",
    "compile": "off",
    "fold": True,
    "verify": False,
}


def module(name: str) -> Any:
    """A module of the extension as the host has loaded it."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def is_last(network: Any) -> bool:
    """Whether a network's weights have their channels last."""
    return bool(module("xpu_runtime.optimizing.layout").is_channels_last(network))


PICTURE = torch.rand(1, 40, 56, 3, generator=torch.Generator().manual_seed(2))


def upscaler() -> dict[str, Any]:
    """From our own loader in fp32, whose layout is as found."""
    given = NODES["IpexUpscaleModelLoader"]().load("mini_esrgan_x2.safetensors", "auto", "fp32")[0]
    upscale = NODES["IpexUpscaleImage"]().upscale
    plain = upscale(given, PICTURE)[0]
    result, text = NODES["IpexOptimizeUpscaler"]().optimize(given, **WISHES)["result"]
    measured = NODES["IpexOptimizeUpscaler"]().optimize(given, **{**WISHES, "verify": True})
    found = {
        "same": close(upscale(result, PICTURE)[0], plain),
        "applied": is_last(result.model),
        "input is as found": not is_last(given.model),
        "same again": torch.equal(upscale(given, PICTURE)[0], plain),
        "figures": "channels_last, 64x64: " in measured["result"][1],
        "device": str(result.patcher.load_device),
        "text": text,
    }
    mm.unload_all_models()
    return found


def preprocessor() -> dict[str, Any]:
    """A network of two convolutions, in fp32."""
    parts = module("nodes.preprocess.preprocessor")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        method = made(module("nodes.preprocess.method"), folder, "edges", 1.0, False)
        device = mm.get_torch_device()
        here = module("xpu_runtime.placement.location").Here(device)
        given = parts.Preprocessor(method, here, "fp32", lambda file: folder / file.name)
        given = parts.hold_network(given)
        apply = NODES["IpexApplyPreprocessor"]().apply
        plain = apply(given, PICTURE)[0]
        optimise = NODES["IpexOptimizePreprocessor"]().optimize
        result, text = optimise(given, **WISHES)["result"]
        measured = optimise(given, **{**WISHES, "verify": True})["result"][1]
        found = {
            "frames as they go at once": "channels_last, 8 of 512x512: " in measured,
            "same": close(apply(result, PICTURE)[0], plain),
            "applied": is_last(result.network.value.module),
            "input is as found": not is_last(given.network.value.module),
            "same again": torch.equal(apply(given, PICTURE)[0], plain),
            "text": text,
        }
    mm.unload_all_models()
    return found


with torch.inference_mode():
    sys.stdout.write(json.dumps({"upscaler": upscaler(), "preprocessor": preprocessor()}) + "\n")
