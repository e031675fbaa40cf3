"""What this project found and did, as text for the log."""

from collections.abc import Sequence

from . import VERSION
from .devices import Device


def devices_line(found: Sequence[Device]) -> str:
    """The line for the host's log at start: the Intel GPUs, or that there is none."""
    import torch

    xpus = [device for device in found if device.name.startswith("xpu")]
    listed = ", ".join(f"{device.name} {device.label}" for device in xpus)
    if not listed:
        listed = "no Intel GPU that this torch can use, so nothing is changed"
    return f"comfyui-ipex {VERSION}, torch {torch.__version__}: {listed}"
