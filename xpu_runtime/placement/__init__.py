"""Where the components of a workflow run: on devices of this process, or on a worker's."""

from .choice import (
    Offload,
    Placed,
    choose,
    choose_offload,
    device_for,
    device_menu,
)
from .dispatch import (
    WITH_MODEL,
    locate_model,
    locate_vae,
    place_clip,
    place_controlnet,
    place_model,
    place_vae,
)
from .location import Computed, Handle, Here, Location, Outcome, There
from .patchers import copied

__all__ = [
    "WITH_MODEL",
    "Computed",
    "Handle",
    "Here",
    "Location",
    "Offload",
    "Outcome",
    "Placed",
    "There",
    "choose",
    "choose_offload",
    "copied",
    "device_for",
    "device_menu",
    "locate_model",
    "locate_vae",
    "place_clip",
    "place_controlnet",
    "place_model",
    "place_vae",
]
