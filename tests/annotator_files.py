"""Weight files for the networks of preprocessors, with random weights, where servers find them.

Who adds a method adds its writer here, or says below on which hosts it runs.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import depth_anything_original
import edge_networks
import pose_programs
import torch
from annotators import random_weights
from comfyui_ipex.nodes.preprocess.controlnet_aux import network_class
from comfyui_ipex.nodes.preprocess.method import Method, NetworkSpec
from comfyui_ipex.nodes.preprocess.networks import (
    depth_anything,
    dwpose,
    leres,
    midas,
    normalbae,
    openpose,
    sam,
    zoe,
)
from comfyui_ipex.nodes.preprocess.networks.checkpoints import make_empty
from torch import nn

_CONSTANTS = ("k_idx", "K_minus_1", "relative_position_index")
"""Of Zoe: not every file holds them."""

SETTINGS: dict[str, dict[str, Any]] = {
    "DepthAnythingV2": {"model": "small"},
    "Sam": {"points_per_side": 2},
}
"""What is set, so that a method's smallest network is run, or does less."""

LARGE = ("LeresDepth", "MidasDepth", "MidasNormal", "NormalBae", "Openpose", "Sam")
"""Methods that take long: they are run on the oldest and the newest host."""

LARGEST = ("ZoeDepth",)
"""Those that take 20 s a picture: they are run once, on the newest host."""

Write = Callable[[Path], None]
"""Writes a checkpoint of random weights to a path, in the form of the published one."""


def _edges(name: str) -> Write:
    def write(path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            edge_networks.write(Path(scratch), name).replace(path)

    return write


def _network(
    make: Callable[[], nn.Module], start: str = "network.", within: str = "", into: str = ""
) -> Write:
    """`start` is what our names have before the file's, `into` what the file's have before."""

    def write(path: Path) -> None:
        shapes = make_empty(make).state_dict()
        named = {
            into + name.removeprefix(start): value
            for name, value in shapes.items()
            if not name.endswith(_CONSTANTS)
        }
        state = random_weights(named)
        torch.save({within: state} if within else state, path)

    return write


def _openpose(part: str) -> Write:
    """The files name layers alone, the package's classes also the block they are in."""

    def write(path: Path) -> None:
        shapes = getattr(make_empty(openpose.OpenPose), part).state_dict()
        if part != "face":
            shapes = {name.split(".", 1)[1]: value for name, value in shapes.items()}
        torch.save(random_weights(shapes), path)

    return write


def _dwpose(path: Path) -> None:
    """Both programs are small stand-ins: the published ones are traces."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = pose_programs.paths(Path(scratch), (160.0, 120.0))
        next(file for name, file in made.items() if path.name.endswith(name)).replace(path)


def _depth_anything(name: str) -> Write:
    def write(path: Path) -> None:
        shapes = depth_anything_original.shapes(depth_anything.SIZES[name])
        torch.save(random_weights(shapes), path)

    return write


def _sam() -> nn.Module:
    return sam.SegmentAnything(network_class(sam._SAM)())


_EDGES = (
    "ControlNetHED.pth",
    "table5_pidinet.pth",
    "Annotators/7_model.pth",
    "Anyline/MTEED.pth",
    "sk_model.pth",
    "netG.pth",
    "erika.pth",
    "mlsd_large_512_fp32.pth",
)

WRITERS: dict[str, Write] = {
    **{name: _edges(Path(name).name) for name in _EDGES},
    **{file.name: _depth_anything(name) for name, file in depth_anything.FILES.items()},
    "mobile_sam.pt": _network(_sam),
    "dpt_hybrid-midas-501f0c75.pt": _network(midas.Midas),
    "scannet.pt": _network(normalbae.NormalBae, "", "model", "module."),
    "res101.pth": _network(leres.Leres, within="depth_model"),
    "ZoeD_M12_N.pt": _network(zoe.Zoe, within="model"),
    **{f"{part}_pose_model.pth": _openpose(part) for part in ("body", "hand")},
    "facenet.pth": _openpose("face"),
    **{file.name: _dwpose for file in (dwpose.DETECTOR, dwpose.ESTIMATOR)},
}
"""By the `WeightFile.name` of the files of methods' default networks."""


def network_of(method: Method) -> NetworkSpec | None:
    """The network that servers run."""
    defaults = {option.name: option.default for option in method.options}
    return method.network(defaults | SETTINGS.get(method.name, {}))


def written(method: Method, folder: Path) -> None:
    """The files of a method's network in `folder`, a host's folder for annotators."""
    network = network_of(method)
    for file in () if network is None else network.files:
        path = folder / file.repository / file.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Other test processes may be about to write it too.
            part = path.with_name(f"{os.getpid()}-{path.name}")
            WRITERS[file.name](part)
            part.replace(path)
