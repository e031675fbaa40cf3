"""What a bug report needs: collected from this process, free of what nobody should publish.

As text it is a page for people, as JSON the dataclasses' own names.
"""

import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from . import host
from .devices import GIB
from .readable import Unreadable, readable
from .report_devices import (
    Capabilities,
    DeviceReport,
    Memory,
    PrimaryDevice,
    device_reports,
    primary_device,
)
from .report_software import Software, arguments, environment, software
from .runtime import Runtime
from .seam import SeamState, SeamStatus
from .seams.memory import allocation_setting
from .settings import read
from .worker_plan import WorkerPlan

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
class SystemReport:
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
    told: SystemReport | Unreadable
    """Its own report."""


class ReportingWorker(Protocol):
    """A worker that can be asked for its report."""

    @property
    def plan(self) -> WorkerPlan: ...

    @property
    def process(self) -> int | None: ...

    def report(self) -> SystemReport: ...


def collect(
    runtime: Runtime,
    environ: Mapping[str, str] = os.environ,
    workers: "Iterable[ReportingWorker]" = (),
) -> SystemReport:
    """Read everything now. What cannot be read says why in its place.

    Asks drivers, so it may take a while: not for an event loop. Without home folder, user name,
    paths, addresses.
    """
    given = readable(host.arguments)
    told = host.HostArguments() if isinstance(given, Unreadable) else given
    setting = readable(lambda: allocation_setting(read("COMFYUI_IPEX_MAX_ALLOCATION", environ)))
    stated = None if isinstance(setting, Unreadable) else setting
    installation = runtime.installation
    found: SystemReport = published(
        SystemReport(
            software=software(),
            arguments=readable(lambda: arguments(host.changed_arguments())),
            environment=environment(environ),
            primary=primary_device(runtime.primary, told),
            devices=device_reports(runtime.found, runtime.reader, stated),
            loaded=readable(lambda: tuple(host.loaded_models())),
            seams=None if installation is None else tuple(installation.verify()),
            measured=_measured(),
            workers=tuple(_of_worker(worker) for worker in workers),
        )
    )
    return found


def _measured() -> tuple[str, ...]:
    # Never imported: where nothing was optimised, it is not loaded.
    state = sys.modules.get(f"{__package__}.optimizing.state")
    outcomes = [] if state is None else state.outcomes()
    return tuple(line for outcome in outcomes for line in outcome.lines)


def _of_worker(worker: "ReportingWorker") -> WorkerReport:
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


NOTHING_CHANGED = "Nothing in ComfyUI is changed: torch offers no Intel GPU here."


def as_json(report: SystemReport) -> str:
    """The report for programs: the dataclasses' own names, sizes in bytes."""
    return json.dumps(dataclasses.asdict(report), indent=1, default=_json_value)


def as_text(report: SystemReport) -> str:
    """The report for people, ready to be pasted into a bug report."""
    software = report.software
    about = {
        "ComfyUI": software.comfyui,
        "Python": software.python,
        "system": software.system,
        "torch": software.torch,
        "IPEX": software.ipex,
        "kernel drivers": software.kernel_drivers,
        "GPU libraries": software.libraries,
        "arguments": _named(report.arguments),
        "environment": _named(report.environment),
        "runs on": _runs_on(report.primary),
    }
    sections = [f"comfyui-ipex {software.extension}", _rows(about)]
    sections += [_device(device) for device in report.devices]
    sections.append("Models on devices\n" + _rows(_loaded(report)))
    if report.measured:
        sections.append("\n  ".join(["IPEX Optimize has measured", *report.measured]))
    if report.seams is None:
        sections.append(NOTHING_CHANGED)
    else:
        rows = {status.seam: _seam(status) for status in report.seams}
        sections.append("Changes to ComfyUI\n" + _rows(rows))
    for worker in report.workers:
        sections += _worker(worker)
    return "\n\n".join(sections) + "\n"


def _worker(worker: WorkerReport) -> list[str]:
    """The parts about a worker: what it is, its devices, and what is loaded on them."""
    told = worker.told
    about: dict[str, Any] = {"process": "none" if worker.process is None else str(worker.process)}
    title = f"Worker {worker.name!r} for {worker.kind}\n"
    if isinstance(told, Unreadable):
        return [title + _rows({**about, "report": told})]
    about |= {"Python": told.software.python, "torch": told.software.torch}
    about |= {f"models on {device}": models for device, models in _loaded(told).items()}
    parts = [title + _rows(about)]
    own = [device for device in told.devices if device.name.startswith(worker.kind)]
    return parts + [_device(replace(one, name=f"{one.name}@{worker.name}")) for one in own]


def _device(device: DeviceReport) -> str:
    rows: dict[str, Any] = {"stable name": device.stable_name}
    if device.driver:
        rows["driver"] = device.driver
    can = device.capabilities
    rows["computes"] = can if isinstance(can, Unreadable) else _computes(can)
    rows |= _memory(device.memory)
    return f"{device.name}: {device.label}\n" + _rows(rows)


def _computes(can: Capabilities) -> str:
    parts = {
        "fp16": can.fp16,
        "bf16": can.bf16,
        "bf16 by its driver": can.driver_bf16,
        "fp64": can.fp64,
        "fp8 storage": can.fp8_storage,
        "integrated": can.integrated,
    }
    told = [
        f"{name} {'yes' if value else 'no'}" for name, value in parts.items() if value is not None
    ]
    return ", ".join([*told, can.units] if can.units else told)


def _memory(memory: Memory | Unreadable) -> dict[str, str]:
    if isinstance(memory, Unreadable):
        return {"memory": _shown(memory)}
    reading, free = memory.reading, memory.free
    rows = {
        "memory": f"{_size(reading.total)}, of which {_size(free.total)} are free "
        f"(source: {free.source}, {_size(free.cached)} of it cached)",
        "this process": f"{_size(reading.reserved)} reserved, {_size(reading.active)} active",
    }
    if reading.driver_free is not None:
        rows["driver says"] = f"{_size(reading.driver_free)} free"
    elif memory.driver_silent is not None:
        rows["driver says"] = f"nothing ({memory.driver_silent})"
    if reading.system_available is not None:
        rows["machine"] = f"{_size(reading.system_available)} available"
    if memory.allocation is not None:
        limit = memory.allocation
        rows["largest tensor"] = f"{_size(limit.largest)} ({limit.source})"
    return rows


def _seam(status: SeamStatus) -> str:
    if status.state is SeamState.NOT_NEEDED:
        return status.text
    return f"{status.text}. Without it: {status.reason}"


def _loaded(report: SystemReport) -> dict[str, Any]:
    if isinstance(report.loaded, Unreadable):
        return {"all": report.loaded}
    by_device: dict[str, list[str]] = {}
    for model in report.loaded:
        share = f"{_size(model.loaded)} of {_size(model.size)}"
        by_device.setdefault(model.device, []).append(f"{model.name} ({share})")
    return {device: tuple(models) for device, models in by_device.items()} or {"all": "none"}


def _runs_on(primary: PrimaryDevice) -> str:
    answered = primary.answered
    if isinstance(answered, str) and answered.startswith(primary.chosen):
        return f"{answered}, {primary.because}"
    return f"{primary.chosen}, {primary.because}; ComfyUI's own answer: {_shown(answered)}"


def _named(values: Mapping[str, str] | Unreadable) -> Any:
    if isinstance(values, Unreadable):
        return values
    return tuple(f"{name}={value}" for name, value in values.items())


def _rows(values: Mapping[str, Any]) -> str:
    width = max(len(name) for name in values)
    return "\n".join(f"  {name:{width}}  {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, Unreadable):
        return f"cannot be read ({value.why})"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value)


def _size(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


def _json_value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)
