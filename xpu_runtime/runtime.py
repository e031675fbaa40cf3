"""Install what the host lacks on Intel GPUs, and say what was done."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from . import VERSION, devices, host
from .devices import Device, DeviceAbsentError
from .log import LOGGER
from .priority import SETTING, DeviceConflictError, Primary, forced, primary
from .seam import Installation, Seam, SeamError, SeamState, SeamStatus
from .seams import Circumstances, seams
from .seams.memory import MemoryReader, allocation_setting
from .settings import names, read


@dataclass(frozen=True)
class Decision:
    """What this process is to run on, and the changes that this asks for."""

    found: tuple[Device, ...]
    primary: Primary
    reader: MemoryReader
    seams: tuple[Seam, ...]
    """Rows of the table; none where nothing is to be changed: without an XPU."""


@dataclass(frozen=True)
class Runtime:
    """What this process runs on, and what was changed in its host."""

    found: tuple[Device, ...]
    primary: Primary
    reader: MemoryReader
    installation: Installation | None
    """None where nothing is to be changed: without an XPU."""


_current: Runtime | None = None

_Result = TypeVar("_Result")


def devices_line(found: Sequence[Device]) -> str:
    """The line for the host's log at start: the Intel GPUs, or that there is none."""
    import torch

    xpus = [device for device in found if device.name.startswith("xpu")]
    listed = ", ".join(f"{device.name} {device.label}" for device in xpus)
    if not listed:
        listed = "no Intel GPU that this torch can use, so nothing is changed"
    return f"comfyui-ipex {VERSION}, torch {torch.__version__}: {listed}"


def current() -> Runtime | None:
    """What `begin` decided in this process, or None before it was called."""
    return _current


def begin(environ: Mapping[str, str] = os.environ) -> Runtime:
    """Decide the device and install the seams whose modules are imported; once a process.

    Called right after the host's model management was imported, so that what the host imports
    next finds it changed. Raises `DeviceAbsentError` if a device is forced that is not here,
    `DeviceConflictError` if settings contradict, `ValueError` if one cannot be read, `SeamError`
    if COMFYUI_IPEX_DISABLE or COMFYUI_IPEX_REQUIRE names no seam.
    """
    global _current
    if _current is None:
        _current = _begin(environ)
    return _current


def start(environ: Mapping[str, str] = os.environ) -> Runtime:
    """Install all seams, and log how they stand. Raises what `begin` raises.

    Raises `SeamError` too if a seam that COMFYUI_IPEX_REQUIRE names cannot be installed.
    """
    runtime = begin(environ)
    LOGGER.info(devices_line(runtime.found))
    if runtime.installation is not None:
        required = names("COMFYUI_IPEX_REQUIRE", environ)
        disabled = names("COMFYUI_IPEX_DISABLE", environ)
        log_statuses(runtime.installation.install(disabled, required))
    return runtime


def or_exit(call: Callable[[], _Result]) -> _Result:
    """`call()`, or the end of the process where a setting cannot be met.

    The host would log an exception and go on, on a device that the user has ruled out.
    """
    try:
        return call()
    except (DeviceAbsentError, DeviceConflictError, SeamError, ValueError) as error:
        raise SystemExit(f"comfyui-ipex: {error}") from error


def decide(environ: Mapping[str, str] = os.environ) -> Decision:
    """What this process runs on; changes nothing.

    Raises what `begin` raises, but for `SeamError`.
    """
    arguments = host.arguments()
    found = devices.discover()
    demand = forced(read(SETTING, environ), arguments)
    chosen = primary(demand, arguments.default_device, found)
    if demand is not None and chosen.kind == devices.CPU and host.runs_on_gpu():
        raise DeviceConflictError(
            f"{demand.source} came too late: ComfyUI runs on a GPU already, because it imported "
            "comfy.model_management before prestartup_script.py of this extension was run. Start "
            "ComfyUI with --cpu."
        )
    circumstances = Circumstances(
        primary=chosen,
        xpus=sum(device.kind == "xpu" for device in found),
        both_makers={"cuda", "xpu"} <= {device.kind for device in found},
        max_allocation=allocation_setting(read("COMFYUI_IPEX_MAX_ALLOCATION", environ)),
    )
    reader = MemoryReader()
    return Decision(found, chosen, reader, seams(circumstances, reader))


def _begin(environ: Mapping[str, str]) -> Runtime:
    decision = decide(environ)
    installation = None
    if decision.seams:
        installation = Installation(decision.seams)
        installation.install(names("COMFYUI_IPEX_DISABLE", environ), loaded_only=True)
    return Runtime(decision.found, decision.primary, decision.reader, installation)


def log_statuses(statuses: Sequence[SeamStatus]) -> None:
    """One line for what was changed, and a warning for each change that could not be made."""
    installed = [status.seam for status in statuses if status.state is SeamState.INSTALLED]
    if installed:
        LOGGER.info("comfyui-ipex changed %d functions: %s", len(installed), ", ".join(installed))
    for status in statuses:
        wanting = status.state in (SeamState.UNSUPPORTED, SeamState.OVERWRITTEN)
        level = LOGGER.warning if wanting else LOGGER.debug
        level("comfyui-ipex: %s: %s. Without it: %s.", status.seam, status.text, status.reason)
