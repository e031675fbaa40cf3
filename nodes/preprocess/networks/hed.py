"""HED: soft edges, and scribbles made of them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..controlnet_aux import network_class
from ..method import Batch, Hint, Method, Network, Paths
from . import annotators
from .checkpoints import filled
from .scribbles import scribble
from .soft_edges import SAFE, MeanOfSides, stepped

_SAFE_STEPS = 2


def load(paths: Paths) -> nn.Module:
    """HED with the weights in `paths`."""
    make = network_class("controlnet_aux.hed:ControlNetHED_Apache2")
    return MeanOfSides(filled(make, paths[annotators.HED.name])).eval()


def _edges(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Tensor:
    assert network is not None
    edges = network(batch.images)
    return stepped(edges, _SAFE_STEPS) if options[SAFE.name] == "enable" else edges


def soft(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Soft edges."""
    return Hint(_edges(network, batch, options))


def scribbled(network: nn.Module | None, batch: Batch, options: Mapping[str, Any]) -> Hint:
    """Scribbles."""
    return Hint(scribble(_edges(network, batch, options)))


_NETWORKS = {"": Network((annotators.HED,), load)}

METHODS = (
    Method(
        name="HED",
        title="HED Soft Edges",
        group="lines",
        description="Soft edges of objects, as a holistically nested network (HED) sees them.",
        run=soft,
        options=(SAFE,),
        networks=_NETWORKS,
        multiple_of=64,
        aliases=("HEDPreprocessor", "softedge_hed"),
    ),
    Method(
        name="ScribbleHED",
        title="Scribble HED",
        group="lines",
        description="Thick black and white scribbles along the edges that HED finds.",
        run=scribbled,
        options=(SAFE,),
        networks=_NETWORKS,
        multiple_of=64,
        aliases=("FakeScribblePreprocessor", "scribble_hed"),
    ),
)
