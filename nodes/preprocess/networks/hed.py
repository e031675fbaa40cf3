"""HED: soft edges, and scribbles made of them."""

from torch import nn

from ..controlnet_aux import network_class
from ..method import Method, NetworkSpec, Paths
from . import annotators
from .checkpoints import make_filled
from .soft_edges import SAFE, MeanOfSides, draw_scribbles, draw_soft_edges


def load(paths: Paths) -> nn.Module:
    make = network_class("controlnet_aux.hed:ControlNetHED_Apache2")
    return MeanOfSides(make_filled(make, paths[annotators.HED.name])).eval()


_NETWORKS = {"": NetworkSpec((annotators.HED,), load)}

METHODS = (
    Method(
        name="HED",
        title="HED Soft Edges",
        group="lines",
        description="Soft edges of objects, as a holistically nested network (HED) sees them.",
        make_hint=draw_soft_edges,
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
        make_hint=draw_scribbles,
        options=(SAFE,),
        networks=_NETWORKS,
        multiple_of=64,
        aliases=("FakeScribblePreprocessor", "scribble_hed"),
    ),
)
