"""The components of a workflow, placed on chosen devices. What is given is never changed."""

from .choice import Located, Offload, Placed, choose, choose_offload, device_for
from .components import place_clip, place_model, place_vae
from .controlnet import WITH_MODEL, place_controlnet
from .location import Here, Location, There
from .patchers import copied

__all__ = [
    "WITH_MODEL",
    "Here",
    "Located",
    "Location",
    "Offload",
    "Placed",
    "There",
    "choose",
    "choose_offload",
    "copied",
    "device_for",
    "place_clip",
    "place_controlnet",
    "place_model",
    "place_vae",
]
