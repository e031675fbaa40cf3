"""Which makers' GPUs this machine has, looked up without importing torch. Standard library only."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# PCI-SIG vendor ids, as sysfs writes them.
INTEL_PCI_VENDOR = "0x8086"
NVIDIA_PCI_VENDOR = "0x10de"

# PCI base class 03: display controllers.
PCI_DISPLAY_CLASS = "0x03"

# Any of these means that NVIDIA's driver is loaded; the last is WSL 2's way.
NVIDIA_DRIVER_FILES = (
    "dev/nvidiactl",
    "proc/driver/nvidia/version",
    "usr/lib/wsl/lib/libcuda.so.1",
)

# How WSL 2 hands the GPU of Windows through, whoever made it.
WSL_DEVICE = "dev/dxg"


@dataclass(frozen=True)
class Hardware:
    """GPUs by maker, as the kernel shows them."""

    nvidia: bool
    """NVIDIA's driver is loaded."""
    intel: bool
    """A DRM render node belongs to an Intel GPU."""
    nvidia_card: bool = False
    """The PCI bus has a display controller by NVIDIA."""
    intel_card: bool = False
    """The PCI bus has a display controller by Intel."""
    missing_nodes: tuple[str, ...] = ()
    """Intel render nodes of the kernel without a device file here, as in a container."""
    locked_nodes: tuple[str, ...] = ()
    """Device files of Intel render nodes that this user may not open."""
    wsl: bool = False
    """Windows hands a GPU through."""
    open_nodes: tuple[str, ...] = ()
    """Device files of Intel render nodes that this user may open."""

    @property
    def torch_backend(self) -> str:
        """Which of PyTorch's builds fits: "default" (CUDA), "xpu" or "cpu"."""
        if self.nvidia:
            return "default"
        return "xpu" if self.intel else "cpu"


def may_open(path: Path) -> bool:
    """Whether this user may read and write the device file `path`."""
    return os.access(path, os.R_OK | os.W_OK)


def detect(root: Path = Path("/"), allowed: Callable[[Path], bool] = may_open) -> Hardware:
    """Look at the device files and the sysfs tree below `root`; `allowed` says what may be opened.

    What cannot be read counts as absent.
    """
    nodes = [
        root / "dev" / "dri" / vendor.parent.parent.name
        for vendor in sorted(root.glob("sys/class/drm/renderD*/device/vendor"))
        if _text(vendor) == INTEL_PCI_VENDOR
    ]
    cards = {
        _text(device / "vendor")
        for device in root.glob("sys/bus/pci/devices/*")
        if _text(device / "class").startswith(PCI_DISPLAY_CLASS)
    }
    present = [node for node in nodes if node.exists()]
    return Hardware(
        nvidia=any((root / name).exists() for name in NVIDIA_DRIVER_FILES),
        intel=bool(nodes),
        nvidia_card=NVIDIA_PCI_VENDOR in cards,
        intel_card=INTEL_PCI_VENDOR in cards,
        missing_nodes=tuple(f"/dev/dri/{node.name}" for node in nodes if node not in present),
        locked_nodes=tuple(f"/dev/dri/{node.name}" for node in present if not allowed(node)),
        wsl=(root / WSL_DEVICE).exists(),
        open_nodes=tuple(f"/dev/dri/{node.name}" for node in present if allowed(node)),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
