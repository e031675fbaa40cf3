"""What follows from an Intel driver's errors."""

from collections.abc import Callable
from typing import Any

from .. import errors, host
from ..log import LOGGER


def is_oom(original: Callable[..., Any]) -> Callable[..., Any]:
    """Also Level Zero's own texts mean that memory ran out."""

    def replacement(e: Any) -> bool:
        return original(e) or errors.is_out_of_memory(e)

    return replacement


def vae_decode(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tiled decoding after Level Zero's own out-of-memory errors too."""

    def decode(self: Any, samples_in: Any, vae_options: Any = {}) -> Any:  # noqa: B006
        try:
            return original(self, samples_in, vae_options)
        except RuntimeError as error:
            _raise_unless_out_of_memory(error)
        _say_tiled("decoding")
        return self.decode_tiled(samples_in)

    return decode


def vae_encode(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tiled encoding after Level Zero's own out-of-memory errors too."""

    def encode(self: Any, pixel_samples: Any) -> Any:
        try:
            return original(self, pixel_samples)
        except RuntimeError as error:
            _raise_unless_out_of_memory(error)
        _say_tiled("encoding")
        return self.encode_tiled(pixel_samples)

    return encode


def _raise_unless_out_of_memory(error: RuntimeError) -> None:
    """Return only if `error` is one of Level Zero's out-of-memory errors.

    torch's own class means that the host's fallback was tried already, and failed too.
    """
    seen = errors.translated(error)
    if seen is error:
        raise error
    if not isinstance(seen, errors.out_of_memory_class()):
        raise seen from error


def _say_tiled(what: str) -> None:
    LOGGER.warning("Out of memory on the Intel GPU during VAE %s: trying again in tiles.", what)
    host.empty_caches()
