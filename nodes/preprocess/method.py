"""What a preprocessor is: a row of the catalogue. No row loads or computes when it is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...xpu_runtime import devices

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Option:
    name: str
    default: bool | int | float | str
    tooltip: str
    least: float | None = None
    most: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    """Of a text option; others have none."""


@dataclass(frozen=True)
class WeightFile:
    """A file of a Hugging Face repository. Where it may lie here is `weights.py`'s knowledge."""

    repository: str
    """ "lllyasviel/Annotators" """
    name: str
    """The path inside the repository: "ControlNetHED.pth"."""
    revision: str
    """The commit that is downloaded, 40 hex digits; "main" where none could be found out."""
    size: int | None = None
    """Bytes; None where no source that could be read states it."""
    sha256: str | None = None
    """None likewise: then the digest that the server states is checked, and the log says so."""
    a1111_folder: str = ""
    """Where A1111's ControlNet extension keeps it, below annotator/downloads: "hed"."""
    licence: str = ""


Paths = Mapping[str, Path]
"""The files of a network by their `WeightFile.name`."""


@dataclass(frozen=True)
class NetworkSpec:
    files: tuple[WeightFile, ...]
    load: "Callable[[Paths], nn.Module]"
    """The network on the CPU, fp32, in eval mode. Raises `weights.WeightFileError` where a file
    does not hold these weights."""
    half: bool = True
    """Whether it may compute in half precision, if the check against fp32 passes. It is called
    with fp32 all the same, and gives fp32 back: `inference.casting` is attached to it."""
    channels_last: bool = True
    """Whether it is called in this memory format: convolutions are faster so, but a GPU's
    instance norms copy all that they get to and fro."""
    channels_last_on_cpu: bool = True
    """The same on the CPU."""

    def layout(self, device: "torch.device") -> "torch.memory_format":
        import torch

        on_cpu = device.type == devices.CPU
        last = self.channels_last_on_cpu if on_cpu else self.channels_last
        return torch.channels_last if last else torch.contiguous_format


@dataclass(frozen=True)
class Batch:
    images: "Tensor"
    """fp32 [N, 3, H, W], 0 to 1, on the device, at the resolution that was asked for; both sides
    are multiples of `Method.multiple_of` (padded at the right and at the bottom)."""
    first: int = 0
    """The index of the first one among the node's pictures."""
    masks: "Tensor | None" = None
    """fp32 [N, 1, H, W], 0 to 1, for methods that take a mask."""
    check_interrupted: Callable[[], None] = lambda: None
    """To be called between calls of a network, where a picture takes many: it raises if the user
    has stopped the workflow."""


@dataclass(frozen=True)
class Hint:
    pictures: "Tensor"
    """fp32 [N, 1 or 3, H, W], 0 to 1, on any device; the size is the batch's."""
    poses: tuple[dict[str, Any], ...] = ()
    """One for each picture, for pose estimators: POSE_KEYPOINT's form, without the canvas
    size, coordinates from 0 to 1 relative to the batch's (padded) pictures."""


Options = Mapping[str, Any]
"""The settings of a method, by the names of its `Option`s."""

MakeHint = Callable[["nn.Module | None", Batch, Options], Hint]
"""(network on the device, or None; pictures; options by name) -> hint. No error is swallowed,
and nothing moves to another device but small results (points, segments)."""


@dataclass(frozen=True)
class Method:
    """A preprocessor. The node of the method "HED" is `IpexHEDPreprocessor`, forever."""

    name: str
    title: str
    """In menus: "HED Soft Edges"."""
    group: str
    """The submenu: "lines", "depth and normals", "pose", "segments", "colour and tiles"."""
    description: str
    make_hint: MakeHint
    options: tuple[Option, ...] = ()
    networks: Mapping[str, NetworkSpec] = field(default_factory=dict)
    """By the value of `network_option`; a single one has the key ""; none for methods without
    weights."""
    network_option: str = ""
    """The option that says which network is taken."""
    multiple_of: int = 1
    takes_mask: bool = False
    gives_poses: bool = False
    keeps_size: bool = False
    """It works at the picture's own size: no resolution is asked for."""
    aliases: tuple[str, ...] = ()
    """Other names under which people search for it: the best-known pack's node ids."""

    def network(self, options: Options) -> NetworkSpec | None:
        if not self.networks:
            return None
        return self.networks[str(options[self.network_option]) if self.network_option else ""]
