"""What a worker is asked to do: functions that are sent by name, and what they keep."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import host, placement
from ..devices import AUTO
from ..placement.controlnet import CalledFromAnywhere

if TYPE_CHECKING:
    import torch


def vae(
    original: Any, keeps_dtype: bool, device: "torch.device", offload: "torch.device | None"
) -> Any:
    """The VAE that `original` was in the host, under this process's memory management.

    It came without a patcher. `keeps_dtype`: somebody chose its dtype, and it stays.
    """
    network = original.first_stage_model.eval()
    original.device = host.vae_device()
    original.output_device = host.intermediate_device()
    if not keeps_dtype:
        original.vae_dtype = host.vae_dtype(original.device, original.working_dtypes)
        network.to(original.vae_dtype)
    host.note_dtypes(network)
    patcher = host.model_patcher_class()
    original.patcher = patcher(network, original.device, host.vae_offload_device())
    return placement.place_vae(original, str(device), _request(offload)).result


def text_encoder(network: Any) -> Any:
    """A CLIP of the host around the network that was sent, without patches."""
    host.note_dtypes(network)
    return host.text_encoder(network.eval())


def patched_text_encoder(
    clip: Any,
    patches: Mapping[str, Any],
    identity: Any,
    options: Any,
    device: "torch.device",
    offload: "torch.device | None",
) -> Any:
    """`clip`'s twin with LoRAs and the like, on a device. `identity` is the patches' own."""
    twin = clip.clone()
    twin.patcher.patches = {name: list(rows) for name, rows in patches.items()}
    twin.patcher.patches_uuid = identity
    twin.patcher.model_options = options
    return placement.place_clip(twin, str(device), _request(offload)).result


def encode(clip: Any, layer: int | None, method: str, tokens: Any, named: Any) -> Any:
    """What a CLIP's method makes of tokens, with the layer that was set in the host."""
    clip.layer_idx = layer
    return getattr(clip, method)(tokens, **named)


def called(owner: Any, method: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """`owner.method(*arguments, **named)`."""
    return getattr(owner, method)(*arguments, **named)


def controlnet(network: Any, device: "torch.device", offload: "torch.device | None") -> Any:
    """A patcher of a ControlNet's network, for `device`."""
    host.note_dtypes(network)
    patcher = host.model_patcher_class()(network.eval(), device, offload or host.offload_device())
    # As the host does for a ControlNet that computes in another dtype than its weights.
    if host.manual_cast_dtype(network.dtype, device) is not None:
        patcher.force_cast_weights = True
    return patcher


def casts_to(patcher: Any) -> Any:
    """The dtype that a ControlNet of this patcher is to be called in; None: its own."""
    return host.manual_cast_dtype(patcher.model.dtype, patcher.load_device)


def apply_controlnet(patcher: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The answer of a ControlNet's network, on the CPU."""
    host.load(patcher)
    return CalledFromAnywhere(patcher.model, patcher.load_device)(*arguments, **named)


def _request(device: "torch.device | None") -> str:
    return AUTO if device is None else str(device)
