"""Which makers' GPUs this machine has, looked up without importing torch."""

from dataclasses import dataclass
from pathlib import Path

INTEL_PCI_VENDOR = "0x8086"  # PCI-SIG vendor id of Intel

# Any of these means that NVIDIA's driver is loaded; the last is WSL 2's way.
NVIDIA_DRIVER_FILES = (
    "dev/nvidiactl",
    "proc/driver/nvidia/version",
    "usr/lib/wsl/lib/libcuda.so.1",
)


@dataclass(frozen=True)
class Hardware:
    """GPUs by maker, as the kernel shows them."""

    nvidia: bool
    """NVIDIA's driver is loaded."""
    intel: bool
    """A DRM render node belongs to an Intel GPU."""

    @property
    def torch_backend(self) -> str:
        """Which of PyTorch's builds fits: "default" (CUDA), "xpu" or "cpu"."""
        if self.nvidia:
            return "default"
        return "xpu" if self.intel else "cpu"


def detect(root: Path = Path("/")) -> Hardware:
    """Look at the device files and the sysfs tree below `root`."""
    return Hardware(
        nvidia=any((root / name).exists() for name in NVIDIA_DRIVER_FILES),
        intel=any(
            vendor.read_text().strip() == INTEL_PCI_VENDOR
            for vendor in sorted(root.glob("sys/class/drm/renderD*/device/vendor"))
        ),
    )
