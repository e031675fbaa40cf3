"""What must be done before the host imports torch. Called by prestartup_script.py.

The host runs that script as a lone file. It imports this package under the name that the host will
give the pack later, so that one instance of each module serves both. Under a launcher with other
names there are two, and the second finds the seams of the first. While `comfy.model_management`
is executed, only `from comfy import model_management` reaches it: its parent does not have it yet.

Sets no environment variable. UR_L0_ENABLE_RELAXED_ALLOCATION_LIMITS is the user's choice, and
SYCL_CACHE_PERSISTENT=1 crashes some of Intel's runtimes (intel/llvm issue 22853).
"""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from . import devices, host, import_hook, ipex, runtime, torch_build
from .devices import CPU, DeviceAbsentError
from .hardware import detect
from .log import LOGGER
from .no_gpu import Situation, hides_nvidia, why
from .priority import SETTING, Forced, forced, kind_of
from .settings import read

MODEL_MANAGEMENT = "comfy.model_management"

# Back ends of others that the host itself imports: only then does torch know their cards.
PLUGINS = ("torch_npu", "torch_mlu")


def prepare(environ: Mapping[str, str] = os.environ) -> None:
    """Carry settings into the host's arguments, and wait for its model management.

    Ends the process (`SystemExit`) if settings contradict or cannot be read, and when the model
    management is imported, if a device is forced that is not here. Imports neither torch nor
    anything else outside the standard library.
    """
    demand = settle(environ)

    def before() -> None:
        runtime.or_exit(lambda: ensure_a_device(demand, environ))

    def after() -> None:
        runtime.or_exit(lambda: runtime.begin(environ))

    import_hook.around_import(MODEL_MANAGEMENT, before, after)


def settle(environ: Mapping[str, str] = os.environ) -> Forced | None:
    """Carry settings into the host's arguments, and keep a mismatched IPEX from being imported.

    Returns the device that the user forces, if any. Ends the process (`SystemExit`) if settings
    contradict or cannot be read. Does not import torch.
    """
    demand = runtime.or_exit(lambda: forced(read(SETTING, environ), host.arguments()))
    if demand is not None and demand.request == CPU:
        host.run_on_cpu()
    version = torch_build.installed_version()
    if version is not None:
        ipex.block_mismatched(version)
    if host.switch_off_ipex_optimize():
        LOGGER.debug("comfyui-ipex: ipex.optimize is off: it fails on partially loaded models.")
    return demand


def ensure_a_device(demand: Forced | None, environ: Mapping[str, str] = os.environ) -> None:
    """Have the host run on the CPU where it would die for want of a GPU, and log why.

    Called when the host is about to import torch. Raises `DeviceAbsentError`, which says why
    too, if a GPU is forced that is not here: that never becomes the CPU.
    """
    kind = None if demand is None else kind_of(demand.request)
    if kind in (CPU, "directml"):
        return
    try:
        import torch
    except (ImportError, OSError):
        return  # the host meets the same error next, and it is torch's to tell
    if any(is_installed(name) for name in host_plugins()):
        return
    if demand is not None:
        _require(demand, torch.__version__, environ)
    elif not offers_a_gpu(torch):
        host.run_on_cpu()
        situation = Situation(detect(), torch.__version__, hides_nvidia(environ))
        LOGGER.warning(
            "comfyui-ipex: torch offers no GPU, so ComfyUI runs on the CPU. Why: %s.",
            why(situation),
        )


def offers_a_gpu(torch: Any) -> bool:
    """Whether torch itself has a device that the host would find."""
    # torch before 2.4 has no torch.xpu.
    backends = (torch.cuda, getattr(torch, "xpu", None), getattr(torch.backends, "mps", None))
    return any(backend is not None and backend.is_available() for backend in backends)


def host_plugins() -> tuple[str, ...]:
    """The packages that may bring a device which torch does not know before the host asks."""
    return (*PLUGINS, ipex.PACKAGE) if host.imports_ipex() else PLUGINS


def is_installed(package: str) -> bool:
    """Whether `package` can be imported; nothing is executed to find out."""
    return importlib.util.find_spec(package) is not None


def _require(demand: Forced, torch_version: str, environ: Mapping[str, str]) -> None:
    found = devices.discover()
    try:
        devices.choose(demand.request, found)
    except DeviceAbsentError as error:
        kind = kind_of(demand.request)
        if any(device.kind == kind for device in found):
            raise
        situation = Situation(detect(), torch_version, hides_nvidia(environ))
        raise DeviceAbsentError(f"{error} Why: {why(situation, (kind,))}.") from error
