"""Components on a worker's devices, and back from there.

The proxies are imported when one is made: they import this package.
"""

from collections.abc import Callable
from typing import Any

from .choice import Located, Placed, choose_offload
from .location import There


def place_vae(vae: Any, chosen: Located, offload: str) -> Placed:
    """A proxy of `vae` on the worker's device that was chosen."""
    from ..workers import vae as proxies

    return _placed(proxies.on_worker, vae, chosen, offload, "the VAE")


def place_clip(clip: Any, chosen: Located, offload: str) -> Placed:
    """A proxy of `clip` on the worker's device that was chosen."""
    from ..workers import clip as proxies

    return _placed(proxies.on_worker, clip, chosen, offload, "the text encoder")


def place_controlnet(control: Any, chosen: Located, offload: str) -> Placed:
    """A copy of `control` whose network is on the worker's device that was chosen."""
    from ..workers import controlnet as proxies

    return _placed(proxies.on_worker, control, chosen, offload, "the ControlNet")


def own_vae(vae: Any) -> Any:
    """This process's VAE that `vae` is or stands for."""
    from ..workers import vae as proxies

    return proxies.original(vae)


def own_clip(clip: Any) -> Any:
    """This process's text encoder that `clip` is or stands for."""
    from ..workers import clip as proxies

    return proxies.original(clip)


def own_controlnet(control: Any) -> Any:
    """This process's ControlNet that `control` is or stands for."""
    from ..workers import controlnet as proxies

    return proxies.original(control)


def _placed(
    place: Callable[..., Any], component: Any, chosen: Located, offload: str, name: str
) -> Placed:
    assert isinstance(chosen.location, There)
    kept = choose_offload(offload, name, chosen.location)
    result = place(component, chosen.location, kept.device)
    return Placed(result, chosen.location, tuple(filter(None, (chosen.warning, kept.warning))))
