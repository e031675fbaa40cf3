"""What this extension uses of the host's objects: a Protocol each, for type checkers alone.

They list no more than what is read, called or set here. Hosts differ in the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

Latent = Mapping[str, Any]
"""A LATENT: "samples" is a tensor [batch, channels, height, width], the rest is optional."""

Conditioning = Sequence[Sequence[Any]]
"""A CONDITIONING: rows of a tensor [batch, tokens, width] and a dict about it."""

Tokens = Mapping[str, Any]
"""What a CLIP makes of a text, by the text encoder's name."""

Patches = dict[str, list[Any]]
"""LoRAs and the like, by the weight that they change."""


class ModelPatcher(Protocol):
    """MODEL, and what CLIP, VAE and CONTROL_NET keep as their patcher."""

    model: "nn.Module"
    load_device: "torch.device"
    offload_device: "torch.device"
    parent: "ModelPatcher | None"
    size: int
    """Bytes of the weights as the host counted them; 0: to be counted anew."""
    patches: Patches
    patches_uuid: Any
    """A `uuid.UUID`. The host compares it, nothing else."""
    model_options: dict[str, Any]
    wrappers: dict[str, dict[str, list[Callable[..., Any]]]]
    force_cast_weights: bool
    """Cast weights to the input's dtype in every call."""
    cached_patcher_init: Any
    """How a newer host makes a plain patcher of a dynamic one; None if it cannot."""

    def clone(self, *, disable_dynamic: bool = ...) -> "ModelPatcher":
        """Another patcher of the same network. Older hosts take no argument."""

    def model_size(self) -> int:
        """Bytes of the weights."""

    def loaded_size(self) -> int:
        """Bytes of the weights that are on the load device."""

    def memory_required(self, input_shape: list[int]) -> float:
        """Bytes that one step of an input of this shape takes."""

    def model_dtype(self) -> "torch.dtype": ...

    def set_model_compute_dtype(self, dtype: "torch.dtype | None") -> None:
        """None: computed in the dtype of the weights."""

    def get_model_object(self, name: str) -> Any: ...

    def detach(self, unpatch_all: bool = ...) -> Any: ...

    def pre_run(self) -> None: ...

    def cleanup(self) -> None: ...

    def add_callback(self, call_type: str, callback: Callable[..., Any]) -> None: ...

    def add_callback_with_key(
        self, call_type: str, key: str, callback: Callable[..., Any]
    ) -> None: ...

    def remove_callbacks_with_key(self, call_type: str, key: str) -> None: ...

    def add_wrapper_with_key(
        self, wrapper_type: str, key: str, wrapper: Callable[..., Any]
    ) -> None: ...

    def remove_wrappers_with_key(self, wrapper_type: str, key: str) -> None: ...


class DiffusionModel(Protocol):
    """The host's `BaseModel`: the network of a MODEL."""

    diffusion_model: "nn.Module"
    model_config: Any
    latent_format: Any
    model_sampling: Any
    adm_channels: int
    manual_cast_dtype: "torch.dtype | None"
    """None: computed in the dtype of the weights."""

    def get_dtype(self) -> "torch.dtype":
        """The dtype of the weights."""

    def apply_model(
        self, x: "torch.Tensor", t: "torch.Tensor", **inputs: Any
    ) -> "torch.Tensor": ...


class CLIP(Protocol):
    """A text encoder with its patcher."""

    patcher: ModelPatcher
    cond_stage_model: "nn.Module"
    layer_idx: int | None

    def clone(self) -> "CLIP": ...

    def encode_from_tokens(self, tokens: Tokens, *args: Any, **kwargs: Any) -> Any: ...

    def add_hooks_to_dict(self, pooled_dict: dict[str, Any]) -> dict[str, Any]: ...


class VAE(Protocol):
    """A VAE with its patcher. Pictures are [batch, height, width, channels] in 0..1."""

    patcher: ModelPatcher
    first_stage_model: "nn.Module"
    device: "torch.device"
    output_device: "torch.device"
    vae_dtype: "torch.dtype"
    working_dtypes: "Sequence[torch.dtype]"

    def throw_exception_if_invalid(self) -> None: ...

    def decode(self, samples_in: "torch.Tensor") -> "torch.Tensor": ...

    def decode_tiled(self, samples: "torch.Tensor") -> "torch.Tensor": ...

    def encode(self, pixel_samples: "torch.Tensor") -> "torch.Tensor": ...

    def encode_tiled(self, pixel_samples: "torch.Tensor") -> "torch.Tensor": ...

    def model_size(self) -> int:
        """Bytes of the weights."""

    def get_sd(self) -> "dict[str, torch.Tensor]": ...


class ControlBase(Protocol):
    """Every CONTROL_NET; T2I adapters and Control-LoRAs have no more than this."""

    cond_hint_original: "torch.Tensor | None"
    extra_concat_orig: "list[torch.Tensor]"
    previous_controlnet: "ControlBase | None"

    def copy(self) -> "ControlBase": ...

    def copy_to(self, control: Any) -> None: ...

    def set_previous_controlnet(self, controlnet: "ControlBase | None") -> Any: ...


class ControlNet(ControlBase, Protocol):
    """A CONTROL_NET that keeps a network under the host's memory management."""

    control_model: Any
    """The network, or what stands for it: it is called."""
    control_model_wrapped: ModelPatcher
    load_device: "torch.device"
    manual_cast_dtype: "torch.dtype | None"

    def copy(self) -> "ControlNet": ...


class SizeRequirements(Protocol):
    """Which pictures a spandrel network takes, in pixels."""

    minimum: int
    multiple_of: int
    square: bool


class Architecture(Protocol):
    """A network's architecture, as spandrel knows it."""

    @property
    def name(self) -> str:
        """For people: "Real-ESRGAN"."""


class Descriptor(Protocol):
    """UPSCALE_MODEL: spandrel's record of a network.

    Pictures are [batch, channels, height, width] in 0..1.
    """

    model: Any
    """An `nn.Module` of any class."""
    architecture: Architecture
    tags: list[str]
    supports_half: bool
    supports_bfloat16: bool
    scale: int
    input_channels: int
    output_channels: int
    size_requirements: SizeRequirements

    @property
    def purpose(self) -> str:
        """ "SR", "FaceSR", "Restoration" or "Inpainting"."""

    @property
    def device(self) -> "torch.device":
        """Where the weights are."""

    @property
    def dtype(self) -> "torch.dtype":
        """That of the weights."""

    patcher: ModelPatcher
    """Where newer hosts look for it."""

    def __call__(self, *pictures: "torch.Tensor") -> "torch.Tensor":
        """The picture; an inpainting model also takes the mask [batch, 1, height, width]."""

    def to(self, *args: Any, **kwargs: Any) -> Any: ...
