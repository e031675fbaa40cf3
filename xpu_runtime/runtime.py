"""Install what the host lacks on Intel GPUs, and say what was done."""

import os
from collections.abc import Mapping, Sequence

from . import devices, host
from .log import LOGGER
from .memory import allocation_setting
from .report import devices_line
from .seam import Installation, SeamState, SeamStatus
from .seams import seams
from .settings import read


def start(environ: Mapping[str, str] = os.environ) -> Installation | None:
    """Install the seams if torch offers an XPU, and log it; None where nothing was to be done.

    Raises `DeviceAbsentError` if COMFYUI_IPEX_DEVICE names an XPU that is not here, `ValueError`
    if COMFYUI_IPEX_MAX_ALLOCATION is no number, `SeamError` if COMFYUI_IPEX_DISABLE names none.
    """
    found = devices.discover()
    LOGGER.info(devices_line(found))
    available = [device.name for device in found]
    if devices.find("xpu", available) is None:
        return None
    max_allocation = allocation_setting(read("COMFYUI_IPEX_MAX_ALLOCATION", environ))
    installation = Installation(seams(chosen_xpu(available, environ), max_allocation))
    disabled = [name.strip() for name in read("COMFYUI_IPEX_DISABLE", environ).split(",")]
    log_statuses(installation.install(disabled=[name for name in disabled if name]))
    return installation


def chosen_xpu(available: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """The index of the XPU that the user chose, or None for no choice.

    COMFYUI_IPEX_DEVICE comes before --default-device. Raises `DeviceAbsentError`.
    """
    request = read("COMFYUI_IPEX_DEVICE", environ)
    if request.startswith("xpu"):
        return int(devices.choose(request, available).partition(":")[2])
    index = host.default_device_argument()
    if index is not None:
        devices.choose(f"xpu:{index}", available)
    return index


def log_statuses(statuses: Sequence[SeamStatus]) -> None:
    """One line a change that was made or could not be; the rest only for debugging."""
    quiet = (SeamState.NOT_NEEDED,)
    for status in statuses:
        level = LOGGER.debug if status.state in quiet else LOGGER.info
        if status.state is SeamState.UNSUPPORTED:
            level = LOGGER.warning
        level("comfyui-ipex: %s: %s. Without it: %s.", status.seam, status.text, status.reason)
