"""What follows from an Intel driver's errors."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .. import errors, host, managed_model
from ..log import LOGGER
from ..seam import Seam
from .devices import MODEL_MANAGEMENT, is_xpu


def is_oom(original: Callable[..., Any]) -> Callable[..., Any]:
    """Also Level Zero's own texts mean that memory ran out."""

    def replacement(e: Any) -> bool:
        return original(e) or errors.is_out_of_memory(e)

    return replacement


def get_output_data(original: Callable[..., Any]) -> Callable[..., Any]:
    """What a node raises, in words that the host understands: the one place all nodes pass.

    The host then unloads its models when memory ran out, and tells the user what to do when
    the card is lost. What it had unloaded before the error is taken from its list, or every
    later prompt would stumble over it. Nodes that are coroutines are awaited elsewhere; none of
    the host's own computes on the card.
    """

    async def replacement(*args: Any, **kwargs: Any) -> Any:
        with errors.host_errors():
            try:
                return await original(*args, **kwargs)
            except RuntimeError:
                host.forget_unloaded()
                raise

    return replacement


def vae_decode(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tiled decoding wherever memory ran out and the host's own tiles did not follow, or failed."""

    def decode(self: Any, samples_in: Any, vae_options: Any = {}) -> Any:  # noqa: B006
        try:
            return original(self, samples_in, vae_options)
        except RuntimeError as error:
            _raise_unless_tiles_may_do(error, self)
        _say_tiled("decoding")
        return self.decode_tiled(samples_in)

    return decode


def vae_encode(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tiled encoding wherever memory ran out and the host's own tiles did not follow, or failed."""

    def encode(self: Any, pixel_samples: Any) -> Any:
        try:
            return original(self, pixel_samples)
        except RuntimeError as error:
            _raise_unless_tiles_may_do(error, self)
        _say_tiled("encoding")
        return self.encode_tiled(pixel_samples)

    return encode


def upscale_with_model(original: Callable[..., Any]) -> Callable[..., Any]:
    """An upscale model leaves the card after an error or an interrupt too, not only at the end.

    Hosts up to 0.3.75 move it by themselves, so that unloading all models does not reach it.
    """

    def replacement(self: Any, upscale_model: Any, image: Any) -> Any:
        try:
            return original(self, upscale_model, image)
        except BaseException as error:
            weights_on = managed_model.device_of(upscale_model.model, host.offload_device())
            # Nothing comes back from a lost card, and a second error would hide the first.
            if is_xpu(weights_on) and not errors.is_device_lost(error):
                upscale_model.to("cpu")
                host.empty_caches()
            raise

    return replacement


def _raise_unless_tiles_may_do(error: RuntimeError, vae: Any) -> None:
    """Return only if the VAE should be loaded once more, for work in tiles.

    That is after Level Zero's own out-of-memory errors, which older hosts do not know, and
    where the VAE is not loaded: memory ran out on the way to the card, and the host went on
    in tiles with weights that are not there, whatever that raised. torch's own class from a
    loaded VAE means that the host's tiles were tried already, and failed too.
    """
    seen = errors.translated(error)
    if seen is error:
        if host.is_loaded(vae.patcher) or not is_xpu(vae.device):
            raise error
    elif not isinstance(seen, errors.out_of_memory_class()):
        raise seen from error


def _say_tiled(what: str) -> None:
    LOGGER.warning("Out of memory on the Intel GPU during VAE %s: trying again in tiles.", what)
    host.empty_caches()


_NO_IS_OOM = "this ComfyUI asks at each place; vae-decode-oom and vae-encode-oom serve"

_UPSCALE_NODE = "ImageUpscaleWithModel"

_VAE = {"decode": vae_decode, "encode": vae_encode}

# The method of the host's node class: V1 nodes have the first, V3 nodes the second, and the
# first as another name of it.
_UPSCALE = {"upscale-errors": "upscale", "upscale-node-errors": "execute"}

_OTHER_KIND = "this ComfyUI's node has another method; upscale-errors serves"


def fault_seams() -> tuple[Seam, ...]:
    return (
        Seam(
            name="node-errors",
            target="execution:get_output_data",
            replace=get_output_data,
            reason="Level Zero's errors reach the user as they are, and models are not unloaded",
        ),
        Seam(
            name="oom-errors",
            target=f"{MODEL_MANAGEMENT}:is_oom",
            replace=is_oom,
            reason="Level Zero's own out-of-memory errors stop what could go on in tiles",
            not_needed=lambda: None if host.has("is_oom") else _NO_IS_OOM,
        ),
        *(
            Seam(
                name=f"vae-{work}-oom",
                target=f"comfy.sd:VAE.{work}",
                replace=replace,
                reason=f"memory that runs out while the VAE is loaded ends its work ({work})",
            )
            for work, replace in _VAE.items()
        ),
        *(
            Seam(
                name=name,
                target=f"nodes:NODE_CLASS_MAPPINGS[{_UPSCALE_NODE}].{method}",
                replace=upscale_with_model,
                reason="after an error or an interrupt the host's upscale model stays on the card",
                not_needed=functools.partial(_upscale_not_needed, method),
            )
            for name, method in _UPSCALE.items()
        ),
    )


def _upscale_not_needed(method: str) -> str | None:
    node = host.node_class(_UPSCALE_NODE)
    function = inspect.getattr_static(node, method, None)
    if function is None:
        return "ComfyUI's own node is not loaded" if node is None else _OTHER_KIND
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is not None and "load_models_gpu" in code.co_names:
        return "this ComfyUI manages the memory of upscale models itself"
    return None
