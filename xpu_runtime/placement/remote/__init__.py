"""Components of the host whose network a worker runs: their proxies, and what serves them there."""

from .clip import original_clip, place_clip
from .controlnet import original_controlnet, place_controlnet
from .vae import locate_vae, original_vae, place_vae

__all__ = [
    "locate_vae",
    "original_clip",
    "original_controlnet",
    "original_vae",
    "place_clip",
    "place_controlnet",
    "place_vae",
]
