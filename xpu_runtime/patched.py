"""What the patches of `patches/` call: the one door between a patched host and this package.

A patched host holds this package as `comfy.xpu_runtime`. Each of its patched functions bears a
decorator that names a row of the table of `seams/`, so that what is decided, and when it is not
needed, is written once for both: hosts that are changed while they run, and hosts that are built.

The host's copy of this package and the extension's are two instances of each module. They share no
state: the extension asks the host what is patched (`host.covers`).
"""

import functools
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, TypeVar

from . import host, prestart, runtime, server_hooks
from .import_hook import isolated
from .log import LOGGER
from .priority import SETTING, forced
from .replacement import TargetError, make_replacement
from .seam import Installation, Seam, why_not_needed
from .seams.devices import is_xpu
from .settings import names, read

_Function = TypeVar("_Function", bound=Callable[..., Any])

FORCE_HELP = (
    "Run on the Intel GPU, also beside an NVIDIA card. If torch offers no Intel GPU, ComfyUI "
    "does not start and says why."
)

on_full_load: list[Callable[[Any], None]] = []
"""Called with each ModelPatcher that was loaded onto an XPU as a whole. Nothing is by default."""

_covered: set[str] = set()


def add_arguments(parser: ArgumentParser) -> None:
    """Add what a patched host's command line has more than the released one's."""
    parser.add_argument("--force-intel-xpu", action="store_true", help=FORCE_HELP)


def refuse_conflicts() -> None:
    """End the process (`SystemExit`) if arguments and settings ask for different devices."""
    runtime.or_exit(lambda: forced(read(SETTING), host.arguments()))


def before_torch() -> None:
    """Settle, before the host imports torch, whether it runs on a GPU at all.

    Ends the process (`SystemExit`) if a device is forced that is not here.
    """
    demand = prestart.settle()
    isolated(lambda: runtime.or_exit(lambda: prestart.ensure_a_device(demand)))


def on_xpu(name: str) -> Callable[[_Function], _Function]:
    """A decorator: the function as the row `name` of the table replaces it.

    It returns the function itself where the row is not needed, as all are where torch offers no
    Intel GPU, or where COMFYUI_IPEX_DISABLE names it. Ends the process (`SystemExit`) if the row
    does not fit the function and COMFYUI_IPEX_REQUIRE names it, and if a setting cannot be met.
    """

    def decorate(original: _Function) -> _Function:
        seam = _wanted().get(name)
        if seam is None:
            return original
        _bind_early(seam, original)
        # While a node's class is being defined, the host's table of nodes does not have it yet.
        listed = "[" in seam.target
        try:
            if not listed and why_not_needed(seam) is not None:
                return original
            method = "." in seam.target.partition(":")[2]
            replacement = make_replacement(seam.target, seam.replace, original, takes_self=method)
        except TargetError as error:
            _say_unfit(seam, error)
            return original
        _covered.add(name)
        return replacement  # type: ignore[return-value]

    return decorate


def covered() -> frozenset[str]:
    """The names of the rows that stand in this host by its own source."""
    return frozenset(_covered)


def loaded(patcher: Any, device: Any) -> None:
    """Tell `on_full_load` of a model that was loaded onto an XPU, unless partially."""
    if on_full_load and is_xpu(device) and host.is_whole(patcher):
        for call in on_full_load:
            call(patcher)


def add_devices(listed: list[dict[str, Any]]) -> None:
    """Add to the "devices" of /system_stats the cards that the host leaves out."""
    decision = _decision()
    if decision is not None and server_hooks.hides_devices(decision.found):
        listed += server_hooks.missing_rows(listed, decision.found)


@functools.cache
def _decision() -> runtime.Decision | None:
    """What this process runs on, or None where a driver failed over the question."""
    found: list[runtime.Decision] = []
    isolated(lambda: found.append(runtime.or_exit(runtime.decide)))
    return found[0] if found else None


@functools.cache
def _wanted() -> dict[str, Seam]:
    decision = _decision()
    if decision is None:
        return {}
    LOGGER.info(runtime.devices_line(decision.found))
    if not decision.seams:
        return {}
    disabled = names("COMFYUI_IPEX_DISABLE")
    rows = Installation(decision.seams)
    runtime.or_exit(lambda: rows.check_names(disabled, names("COMFYUI_IPEX_REQUIRE")))
    return {seam.name: seam for seam in decision.seams if seam.name not in disabled}


def _bind_early(seam: Seam, original: Any) -> None:
    """Bind a function's name, as `def` does when its decorators are through.

    Whether a row is needed may depend on what stands there.
    """
    module, _, attribute = seam.target.partition(":")
    if "." not in attribute:
        vars(sys.modules[module]).setdefault(attribute, original)


def _say_unfit(seam: Seam, error: TargetError) -> None:
    text = f"{seam.name} does not fit this ComfyUI: {error}. Without it: {seam.reason}."
    if seam.name in names("COMFYUI_IPEX_REQUIRE", os.environ):
        raise SystemExit(f"comfyui-ipex: {text} It is required by your settings.") from error
    LOGGER.warning("comfyui-ipex: %s", text)
