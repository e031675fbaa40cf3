"""What this project found and did, as text: a line for the log, a page for a bug report."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

from .readable import Unreadable
from .report_data import Report, WorkerReport
from .report_devices import Capabilities, DeviceReport, Memory, PrimaryDevice
from .seam import SeamState, SeamStatus

_GIB = 1 << 30

NOTHING_CHANGED = "Nothing in ComfyUI is changed: torch offers no Intel GPU here."


def as_json(report: Report) -> str:
    """The report for programs: the dataclasses' own names, sizes in bytes."""
    return json.dumps(dataclasses.asdict(report), indent=1, default=_json_value)


def as_text(report: Report) -> str:
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
    told = [f"{name} {_yes(value)}" for name, value in parts.items() if value is not None]
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


def _loaded(report: Report) -> dict[str, Any]:
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
    return f"{size / _GIB:.2f} GiB"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _json_value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)
