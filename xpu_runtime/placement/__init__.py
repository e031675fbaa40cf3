"""The components of a workflow, placed on chosen devices. What is given is never changed."""

from .choice import Choice, Placed, choose, choose_offload, device_for, offload_of
from .components import place_clip, place_model, place_vae
from .controlnet import WITH_MODEL, place_controlnet
from .patchers import copied

__all__ = [
    "WITH_MODEL",
    "Choice",
    "Placed",
    "choose",
    "choose_offload",
    "copied",
    "device_for",
    "offload_of",
    "place_clip",
    "place_controlnet",
    "place_model",
    "place_vae",
]
