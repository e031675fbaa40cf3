"""The report's facts: collected from this process, free of what nobody should publish."""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import host, workers
from .priority import HostArguments
from .readable import Unreadable, readable
from .report_devices import DeviceReport, PrimaryDevice, device_reports, primary_device
from .report_software import Software, arguments, environment, software
from .seam import SeamStatus
from .seams.memory import allocation_setting
from .settings import read

if TYPE_CHECKING:
    from .runtime import Runtime

# "/home/ann/ComfyUI/custom_nodes/other": what comes before custom_nodes is nobody's business,
# nor is the way to any other file; a quoted one may hold spaces. Not the "//" of an address.
_NO_WORD_BEFORE = r"(?<![\w~./:])"
_PACK = re.compile(_NO_WORD_BEFORE + r"[/~][^;\n]*?/(?=custom_nodes/)")
_PATHS = (
    re.compile(r"(?<=')/[^'\n]+/(?=[^'/\n]+')"),
    re.compile(_NO_WORD_BEFORE + r"/(?:[^\s/'\"();,]+/)+(?=[^\s/'\"();,])"),
    re.compile(r"\b[A-Za-z]:\\(?:[^\\\n'\"]+\\)+"),
)

# "https://ann:token@host": what comes before the host's name.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


@dataclass(frozen=True)
class Report:
    """What a bug report needs. Dictionaries in it are never changed."""

    software: Software
    arguments: dict[str, str] | Unreadable
    """The host's command-line arguments that matter and differ from their defaults."""
    environment: dict[str, str]
    primary: PrimaryDevice
    devices: tuple[DeviceReport, ...]
    loaded: tuple[host.LoadedModel, ...] | Unreadable
    seams: tuple[SeamStatus, ...] | None
    """How every change of the host stands now; None where nothing is changed."""
    measured: tuple[str, ...] = ()
    """What IPEX Optimize has measured in this process, in words."""
    workers: "tuple[WorkerReport, ...]" = ()
    """What each worker says of itself."""


@dataclass(frozen=True)
class WorkerReport:
    """A worker, seen from the process that it works for."""

    name: str
    kind: str
    process: int | None
    """Its process id; None while it does not run."""
    told: Report | Unreadable
    """Its own report."""


def collect(runtime: "Runtime", environ: Mapping[str, str] = os.environ) -> Report:
    """Read everything now. What cannot be read says why in its place.

    Asks drivers, so it may take a while: not for an event loop. Without home folder, user name,
    paths, addresses.
    """
    given = readable(host.arguments)
    told = HostArguments() if isinstance(given, Unreadable) else given
    setting = readable(lambda: allocation_setting(read("COMFYUI_IPEX_MAX_ALLOCATION", environ)))
    stated = None if isinstance(setting, Unreadable) else setting
    installation = runtime.installation
    return published(
        Report(
            software=software(),
            arguments=readable(lambda: arguments(host.changed_arguments())),
            environment=environment(environ),
            primary=primary_device(runtime.primary, told),
            devices=device_reports(runtime.found, runtime.reader, stated),
            loaded=readable(lambda: tuple(host.loaded_models())),
            seams=None if installation is None else tuple(installation.verify()),
            measured=_measured(),
            workers=tuple(_of_worker(worker) for worker in workers.started()),
        )
    )


def _measured() -> tuple[str, ...]:
    # Never imported: where nothing was optimised, it is not loaded.
    state = sys.modules.get(f"{__package__}.optimizing.state")
    outcomes = [] if state is None else state.outcomes()
    return tuple(line for outcome in outcomes for line in outcome.lines)


def _of_worker(worker: "workers.Worker") -> WorkerReport:
    told = readable(worker.report)
    return WorkerReport(worker.plan.name, worker.plan.kind, worker.process, told)


def published(part: Any) -> Any:
    """`part` with every text in it as `without_paths` leaves it."""
    if isinstance(part, str):
        return without_paths(part)
    if isinstance(part, tuple):
        return tuple(published(item) for item in part)
    if isinstance(part, dict):
        return {name: published(value) for name, value in part.items()}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        changed = {f.name: published(getattr(part, f.name)) for f in dataclasses.fields(part)}
        return dataclasses.replace(part, **changed)
    return part


def without_paths(text: str) -> str:
    """`text` with "~" for the home folder and "..." for the way to any other file."""
    try:
        home = str(Path.home())
    except RuntimeError:
        home = "/"
    if home != "/":
        # ComfyUI names a pack's module after its folder, with "_x_" for each dot.
        for written in (home, home.replace(".", "_x_")):
            text = text.replace(written, "~")
    text = _CREDENTIALS.sub("", _PACK.sub("", text))
    for pattern in _PATHS:
        text = pattern.sub(".../", text)
    return text
