"""THE table of why torch offers no GPU, and what to do. Standard library only."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from .hardware import Hardware
from .torch_build import built_for

_PIP = "install it again: pip install --force-reinstall torch torchvision torchaudio"

REINSTALL: Mapping[str, str] = {
    "cuda": _PIP,
    "xpu": f"{_PIP} --index-url https://download.pytorch.org/whl/xpu",
}
"""Kind of device -> how to come by a torch that is built for it, for people."""


@dataclass(frozen=True)
class Situation:
    """What is known about a machine whose torch offers no GPU."""

    hardware: Hardware
    torch: str
    """torch's version."""
    hidden: bool
    """CUDA_VISIBLE_DEVICES hides every NVIDIA card."""

    @property
    def build(self) -> str:
        """What torch was built for; a version that does not say it may be any."""
        return built_for(self.torch)


@dataclass(frozen=True)
class Cause:
    """One reason; `text` and `remedy` may name {torch}, {locked}, {missing} and {reinstall}."""

    kind: str
    """The kind of device that it keeps away, "cuda" or "xpu"."""
    applies: Callable[[Situation], bool]
    text: str
    remedy: str


CAUSES: tuple[Cause, ...] = (
    Cause(
        "cuda",
        lambda s: s.hardware.nvidia and s.hidden,
        "CUDA_VISIBLE_DEVICES hides every NVIDIA card",
        "unset it",
    ),
    Cause(
        "cuda",
        lambda s: s.hardware.nvidia and s.build not in ("cuda", ""),
        "NVIDIA's driver is loaded, but torch {torch} was not built for CUDA",
        "{reinstall}",
    ),
    Cause(
        "cuda",
        lambda s: s.hardware.nvidia,
        "NVIDIA's driver is loaded, but torch {torch} cannot use it",
        "update the driver (torch built for CUDA 13 needs 580 or newer)",
    ),
    Cause(
        "xpu",
        lambda s: s.hardware.intel and s.build != "xpu",
        "there is an Intel GPU, but torch {torch} was not built for XPU",
        "{reinstall}",
    ),
    Cause(
        "xpu",
        lambda s: bool(s.hardware.locked_nodes),
        "there is an Intel GPU, but this user may not open {locked}",
        "join the group that owns it (sudo usermod -aG render $USER) and log in again; in a "
        "container, add that group's number (--group-add)",
    ),
    Cause(
        "xpu",
        lambda s: bool(s.hardware.missing_nodes),
        "the kernel has an Intel GPU, but there is no {missing} here",
        "hand it to this container (--device /dev/dri)",
    ),
    Cause(
        "xpu",
        lambda s: s.hardware.intel,
        "there is an Intel GPU, but torch {torch} cannot use it",
        "install Intel's compute runtime (intel-opencl-icd, libze1, libze-intel-gpu1)",
    ),
    Cause(
        "cuda",
        lambda s: s.hardware.nvidia_card,
        "there is an NVIDIA card, but NVIDIA's driver is not loaded",
        "install it, and start the computer again",
    ),
    Cause(
        "xpu",
        lambda s: s.hardware.wsl and s.build != "xpu",
        "Windows hands a GPU through, but torch {torch} was not built for XPU",
        "if it is Intel's, {reinstall}",
    ),
    Cause(
        "xpu",
        lambda s: s.hardware.wsl,
        "Windows hands a GPU through, but torch {torch} cannot use it",
        "install Intel's compute runtime inside WSL (intel-opencl-icd, libze1, "
        "libze-intel-gpu1) and Intel's current driver in Windows",
    ),
    Cause(
        "xpu",
        lambda s: s.hardware.intel_card,
        "there is an Intel GPU, but the kernel has no render node for it",
        "use a newer kernel, whose driver i915 or xe knows the card",
    ),
)
"""The first row that applies is told, so what hides a later one stands before it.

Rows about what torch was built for come before the others: that build was somebody's choice.
"""


def hides_nvidia(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves no NVIDIA card to be seen."""
    return environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def why(
    situation: Situation,
    kinds: Collection[str] = ("cuda", "xpu"),
    reinstall: Mapping[str, str] = REINSTALL,
) -> str:
    """Why torch offers no device of these kinds, and the remedy where there is one.

    `reinstall` tells how to come by another torch, as `REINSTALL` does.
    """
    for cause in sorted(CAUSES, key=lambda cause: cause.kind != situation.build):
        if cause.kind in kinds and cause.applies(situation):
            names = {
                "torch": situation.torch,
                "locked": ", ".join(situation.hardware.locked_nodes),
                "missing": ", ".join(situation.hardware.missing_nodes),
                "reinstall": reinstall[cause.kind],
            }
            return f"{cause.text}: {cause.remedy}".format(**names)
    return _NOTHING[tuple(sorted(kinds))]


_NOTHING = {
    ("cuda",): "no NVIDIA driver was found",
    ("xpu",): "no Intel render node was found",
    ("cuda", "xpu"): "no NVIDIA driver and no Intel render node was found",
}
