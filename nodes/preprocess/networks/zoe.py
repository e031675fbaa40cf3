"""ZoeDepth (the indoor network): metric depth, nearest white."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ....inference.weight_files import load_state_dict
from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths, WeightFile
from . import annotators
from .checkpoints import fill, make_empty

_MODELS = "controlnet_aux.zoe.zoedepth.models"
_MIDAS = f"{_MODELS}.base_models.midas_repo.midas"

# The package's config_zoedepth.json, "model".
_SETTINGS: dict[str, Any] = {
    "n_bins": 64,
    "bin_embedding_dim": 128,
    "bin_centers_type": "softplus",
    "n_attractors": [16, 8, 4, 1],
    "attractor_alpha": 1000,
    "attractor_gamma": 2,
    "attractor_kind": "mean",
    "attractor_type": "inv",
    "min_temp": 0.0212,
    "max_temp": 50.0,
}

# Distances are stretched between these parts of a picture's pixels, as controlnet_aux does it.
_NEAREST, _FARTHEST = 0.02, 0.85

_GAMMA = 2.2


class _Indices(dict[str, Tensor]):
    """Which relative position each pair of patches has, by the size, on one device.

    All layers share them. The package keeps each layer's on the CPU, and copies them in each call.
    """

    device = torch.device("cpu")

    def __setitem__(self, size: str, index: Tensor) -> None:
        super().__setitem__(size, index.to(self.device))

    def move(self, device: torch.device) -> None:
        """Be on `device`; what is elsewhere is forgotten."""
        if device != self.device:
            self.clear()
            self.device = device


class Zoe(nn.Module):
    """Pictures [N, 3, H, W] from 0 to 1 to distances [N, 1, H, W] in metres.

    Each is looked at with a mirrored margin and a second time mirrored, and the mean counts. The
    package's network hands results on through a dict of its module and through hooks that know
    one instance: copies would read another's, and the last ones would never be freed.
    """

    def __init__(self, backbone: str = "beitl16_384", size: tuple[int, int] = (384, 512)) -> None:
        super().__init__()
        depth = network_class(f"{_MIDAS}.dpt_depth:DPTDepthModel")
        midas = network_class(f"{_MODELS}.base_models.midas:MidasCore")
        core = midas(depth(backbone=backbone), img_size=list(size), keep_aspect_ratio=True)
        core.set_output_channels("DPT_BEiT_L_384")
        core.prep.normalization = _centred
        self.indices = _Indices()
        for block in core.core.pretrained.model.blocks:
            block.attn.relative_position_indices = self.indices
        self.network = network_class(f"{_MODELS}.zoedepth.zoedepth_v1:ZoeDepth")(core, **_SETTINGS)

    def _apply(self, *arguments: Any, **named: Any) -> nn.Module:
        # Whoever moves the weights off a device wants its memory back.
        self.indices.clear()
        return super()._apply(*arguments, **named)

    def forward(self, pictures: Tensor) -> Tensor:
        """The greater, the farther."""
        self.indices.move(pictures.device)
        core = self.network.core
        kept = network_class(f"{_MIDAS}.backbones.utils:activations")
        core.core.pretrained.activations = kept
        core.remove_hooks()
        core.handles.clear()
        core.attach_hooks(core.core)
        try:
            return self.network.infer(pictures)
        finally:
            kept.clear()
            core.core_out.clear()


def _centred(pictures: Tensor) -> Tensor:
    """From -1 to 1. torchvision's own function waits for the device at each call."""
    return pictures * 2 - 1


def load(paths: Paths) -> nn.Module:
    path = next(iter(paths.values()))
    network = make_empty(Zoe)
    fill(network, _known(load_state_dict(path), network), path)
    return _completed(network)


def _completed(network: nn.Module) -> nn.Module:
    """The network with what files do not hold and the meta device left without numbers.

    That is the bias of attention's keys, which is 0 throughout, and an index that is computed
    anew for each size (`_Indices`).
    """
    for part in network.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_meta:
                setattr(part, name, torch.zeros(buffer.shape, dtype=buffer.dtype))
    return network


def _known(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights by the network's names.

    Newer versions of timm compute an index themselves, and the original of the network does so
    with two constants that the package keeps among the weights.
    """
    names = network.state_dict().keys()
    bins = _SETTINGS["n_bins"]
    constants = {"k_idx": torch.arange(bins), "K_minus_1": torch.tensor([bins - 1.0])}
    given = {
        name: constants[name.rpartition(".")[2]].view(1, -1, 1, 1)
        for name in names
        if name.endswith(tuple(constants))
    }
    given |= {f"network.{name}": value for name, value in state.items()}
    index = "relative_position_index"
    return {name: v for name, v in given.items() if name in names or not name.endswith(index)}


def estimate_depth(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Nearness from 0 to 1."""
    assert network is not None
    distances = network(batch.images)
    nearest, farthest = _quantiles(distances, (_NEAREST, _FARTHEST))
    extent = farthest - nearest
    near = 1 - (distances - nearest) / torch.where(extent > 0, extent, 1)
    near = near.clamp(min=0)
    if options["gamma_corrected"]:
        near = near**_GAMMA
    return Hint(near.clamp(max=1))


def _quantiles(maps: Tensor, parts: tuple[float, ...]) -> list[Tensor]:
    """For each of `parts` of the pixels [N, 1, 1, 1], the value below which they are.

    numpy's default; torch.quantile takes no more than 16 million numbers.
    """
    ordered = maps.flatten(1).sort(1).values
    last = ordered.shape[1] - 1
    found = []
    for part in parts:
        place = part * last
        lower, upper = ordered[:, math.floor(place)], ordered[:, math.ceil(place)]
        value = lower + (upper - lower) * (place - math.floor(place))
        found.append(value[:, None, None, None])
    return found


METHODS = (
    Method(
        name="ZoeDepth",
        title="Zoe Depth",
        group="depth and normals",
        description="Depth of indoor scenes, near is bright. Looks at each picture twice.",
        make_hint=estimate_depth,
        options=(Option("gamma_corrected", False, "Darker where it is far, by a power of 2.2."),),
        networks={
            "": NetworkSpec(
                (
                    WeightFile(
                        annotators.REPOSITORY,
                        "ZoeD_M12_N.pt",
                        annotators.REVISION,
                        a1111_folder="zoedepth",
                        licence="MIT",
                    ),
                ),
                load,
            )
        },
        aliases=("Zoe-DepthMapPreprocessor", "Zoe Depth Map"),
    ),
)
