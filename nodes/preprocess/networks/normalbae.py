"""Bae et al.'s surface normals: their network with an EfficientNet-B5 encoder."""

import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from ....inference.weight_files import load_state_dict
from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Paths, WeightFile
from . import annotators
from .checkpoints import fill
from .depth_maps import normalised

_SUBMODULES = "controlnet_aux.normalbae.nets.submodules"

# How controlnet_aux makes the network; the ratios are of the training only.
_ARGUMENTS = SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7)


class NormalBae(nn.Module):
    """ImageNet-normalised pictures [N, 3, H, W], sides multiples of 32, to normals [N, 3, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        encoder = network_class(f"{_SUBMODULES}.encoder:Encoder")
        # Its own __init__ prints, and leaves the package that it reads by path importable.
        self.encoder = encoder.__new__(encoder)
        nn.Module.__init__(self.encoder)
        self.encoder.original_model = _efficientnet(Path(sys.modules[encoder.__module__].__file__))
        self.decoder = network_class(f"{_SUBMODULES}.decoder:Decoder")(_ARGUMENTS)

    def forward(self, pictures: Tensor) -> Tensor:
        """Unit vectors at the pictures' own size."""
        return self.decoder(self.encoder(pictures))[0][-1][:, :3]


def _efficientnet(beside: Path) -> nn.Module:
    with _importable(beside.parent / "efficientnet_repo", "geffnet"):
        network = importlib.import_module("geffnet").tf_efficientnet_b5_ap(pretrained=False)
    network.global_pool = nn.Identity()
    network.classifier = nn.Identity()
    return network


@contextmanager
def _importable(folder: Path, package: str) -> Iterator[None]:
    """`package` in `folder` can be imported by its bare name; afterwards nobody knows it."""
    before = {name: sys.modules.pop(name) for name in _modules_of(package)}
    sys.path.insert(0, str(folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it uses torch.jit.script
            yield
    finally:
        sys.path.remove(str(folder))
        for name in _modules_of(package):
            del sys.modules[name]
        sys.modules.update(before)


def _modules_of(package: str) -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == package]


def load(paths: Paths) -> nn.Module:
    path = next(iter(paths.values()))
    return fill(NormalBae(), load_state_dict(path), path)


def estimate_normals(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Normals: each direction from -1 to 1 as a colour from 0 to 1."""
    assert network is not None
    normals = network(normalised(batch.images))
    return Hint(((normals + 1) / 2).clamp(0, 1))


METHODS = (
    Method(
        name="NormalBae",
        title="NormalBae Normals",
        group="depth and normals",
        description="Surface directions, estimated by a network that was trained for them.",
        make_hint=estimate_normals,
        networks={
            "": NetworkSpec(
                (
                    WeightFile(
                        annotators.REPOSITORY,
                        "scannet.pt",
                        annotators.REVISION,
                        sha256="03dbf1600c51ee3d45c29f77b77bf1a3b7a24c3452dba62a4ae658f37330c209",
                        a1111_folder="normal_bae",
                        licence="MIT",
                    ),
                ),
                load,
            )
        },
        multiple_of=32,
        aliases=("BAE-NormalMapPreprocessor", "BAE Normal Map"),
    ),
)
