"""Replacements of the host's functions: each a factory that gets the original.

Every one decides by the device of the call, and hands calls about other devices to the
original with the same arguments.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import errors, host
from .attention_plan import score_limit
from .log import LOGGER
from .memory import MemoryReader, largest_allocation

if TYPE_CHECKING:
    import torch


def _is_xpu(device: Any) -> bool:
    return getattr(device, "type", None) == "xpu"


def primary_device(index: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`get_torch_device` that answers the XPU of this index where it answered another XPU.

    The host asks torch for the current device, which each thread has its own of: what is set
    in the main thread does not reach the thread that runs workflows.
    """

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def get_torch_device() -> "torch.device":
            import torch

            device = original()
            return torch.device("xpu", index) if _is_xpu(device) else device

        return get_torch_device

    return factory


def free_memory(reader: MemoryReader) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`get_free_memory` that sees other programs and the machine's own memory."""

    def factory(original: Callable[..., Any]) -> Callable[..., Any]:
        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            device = host.primary_device() if dev is None else dev
            if not _is_xpu(device):
                return original(dev, torch_free_too)
            free = reader.free(device)
            return (free.total, free.cached) if torch_free_too else free.total

        return get_free_memory

    return factory


def attention_limit(reader: MemoryReader, stated: int | None) -> "Callable[[torch.device], int]":
    """How many bytes one matrix of attention scores may take on a device now.

    `stated` is the user's own figure for the largest allocation, in bytes.
    """

    def limit_for(device: "torch.device") -> int:
        import torch

        properties = torch.xpu.get_device_properties(device)
        granted = largest_allocation(properties, stated)
        return score_limit(granted, reader.free(device).total)

    return limit_for


def should_use_bf16(original: Callable[..., Any]) -> Callable[..., Any]:
    """bf16 where torch says that the XPU computes it, natively or not."""

    def replacement(
        device: Any = None,
        model_params: int = 0,
        prioritize_performance: bool = True,
        manual_cast: bool = False,
    ) -> bool:
        import torch

        asked = host.primary_device() if device is None else device
        if not _is_xpu(asked):
            return original(device, model_params, prioritize_performance, manual_cast)
        return not host.forces_fp32() and torch.xpu.is_bf16_supported()

    return replacement


def device_supports_non_blocking(original: Callable[..., Any]) -> Callable[..., Any]:
    """Blocking copies to and from an XPU, unless the user asked for others."""

    def replacement(device: Any) -> bool:
        if _is_xpu(device):
            return host.forces_non_blocking()
        return original(device)

    return replacement


def unload_all_models(original: Callable[..., Any]) -> Callable[..., Any]:
    """Unload from every device that holds a model, not only from the host's own."""

    def replacement() -> None:
        original()
        for device in host.loaded_devices():
            host.free_everything_on(device)

    return replacement


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
