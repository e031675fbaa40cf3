"""TEED: soft edges by a very small network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, NetworkSpec, Option, Paths
from . import annotators
from .checkpoints import make_filled
from .soft_edges import MeanOfSides, stepped


def network_of(path: Path) -> nn.Module:
    """TEED with the weights in `path`."""
    return MeanOfSides(make_filled(network_class("controlnet_aux.teed.ted:TED"), path)).eval()


def load(paths: Paths) -> nn.Module:
    """TEED with the weights in `paths`."""
    return network_of(paths[annotators.TEED.name])


def draw_soft_edges(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Soft edges, in `safe_steps` + 1 shades unless that is 0."""
    assert network is not None
    edges = network(batch.images)
    steps = int(options["safe_steps"])
    return Hint(stepped(edges, steps) if steps else edges)


METHODS = (
    Method(
        name="TEED",
        title="TEED Soft Edges",
        group="lines",
        description="Soft edges by TEED, a very small network: the fastest of them.",
        make_hint=draw_soft_edges,
        options=(
            Option(
                "safe_steps",
                2,
                "Into how many steps the shades of edges are cut; 0 keeps all shades.",
                least=0,
                most=10,
                step=1,
            ),
        ),
        networks={"": NetworkSpec((annotators.TEED,), load)},
        multiple_of=64,
        aliases=("TEEDPreprocessor", "TEED_Preprocessor", "softedge_teed"),
    ),
)
