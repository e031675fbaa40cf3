"""Discovery, naming and priority of devices: forced > CUDA > XPU > CPU.

The decisions are pure functions over devices as data; only `discover` asks torch, so the
launcher can use this module before torch is installed.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

AUTO = "auto"
CPU = "cpu"

GIB = 1 << 30

_WORKER = r"[a-z][a-z0-9-]{0,31}"

_NAME = re.compile(
    r"auto|cpu|(?:cuda|xpu)(?::(?:0|[1-9][0-9]{0,2})|@[0-9A-Za-z:.-]{4,64})?"
    rf"|(?:cpu|(?:cuda|xpu):(?:0|[1-9][0-9]{{0,2}}))@{_WORKER}"
)

# What `Device.entry` writes: "xpu:0 Intel Arc A770 16 GB #4f1a2b", without the mark on older torch,
# and "@worker" behind it if it is another process's.
_ENTRY = re.compile(
    r"(?P<name>(?P<kind>cuda|xpu):\d{1,3}) (?P<what>[^#@\s][^#@]{0,120}?)"
    rf"(?: #(?P<mark>[0-9a-f]{{6}}))?(?: @(?P<worker>{_WORKER}))?"
    rf"|(?P<cpu>cpu) @(?P<where>{_WORKER})"
)

_DECORATION = re.compile(r"\((?:R|TM|C)\)| Graphics$", re.IGNORECASE)


@dataclass(frozen=True)
class Device:
    """A device that torch can use now, in this process or in a worker's."""

    name: str
    """What `torch.device` takes: "cpu", "cuda:0", "xpu:1"; with "@worker" behind it, a worker's."""
    label: str
    """The maker's name of the card, for people."""
    identity: str | None = None
    """The card's uuid, which it keeps when cards are added or counted in another order."""
    memory: int | None = None
    """Bytes in all."""

    @property
    def kind(self) -> str:
        """ "cuda", "xpu" or "cpu"."""
        return self.name.partition("@")[0].partition(":")[0]

    @property
    def worker(self) -> str:
        """The worker that has it; "" if this process has it."""
        return self.name.partition("@")[2]

    @property
    def stable_name(self) -> str:
        """A name for settings and files that outlives this process: "xpu@8680a056-...".

        Where torch gives no identity, the number has to do.
        """
        known = self.identity is not None and not self.worker
        return f"{self.kind}@{self.identity}" if known else self.name

    @property
    def entry(self) -> str:
        """For menus, and for the workflows that keep it: "xpu:0 Intel Arc A770 16 GB #4f1a2b".

        The mark at the end belongs to this one card, wherever it is counted; where torch gives
        no identity there is none.
        """
        name = self.name.partition("@")[0]
        where = f" @{self.worker}" if self.worker else ""
        if self.kind == CPU:
            return name + where
        return f"{name} {self._what}" + (f" #{self._mark}" if self._mark else "") + where

    @property
    def _what(self) -> str:
        """The make and the memory: "Intel Arc A770 16 GB". Drivers keep some for themselves."""
        plain = _DECORATION.sub("", self.label).replace("#", "").replace("@", "")
        label = " ".join(plain.split()) or "card"
        return label if self.memory is None else f"{label} {-(-self.memory // GIB)} GB"

    @property
    def _mark(self) -> str:
        if self.identity is None:
            return ""
        return hashlib.sha256(self.identity.encode()).hexdigest()[:6]

    def is_entry(self, text: str) -> bool:
        """Whether `text`, written here or elsewhere, is the entry of this card.

        Without a mark, make and memory have to do.
        """
        found = _ENTRY.fullmatch(text)
        if found is None or (found["worker"] or found["where"] or "") != self.worker:
            return False
        if (found["kind"] or found["cpu"]) != self.kind or self.kind == CPU:
            return found["cpu"] == self.kind
        return found["mark"] == self._mark if found["mark"] else found["what"] == self._what


class DeviceAbsentError(RuntimeError):
    """The device that was asked for is not on this machine."""


def is_device_name(text: object) -> bool:
    """True for auto, cpu, cuda, xpu, xpu:N with N up to 999, xpu@UUID, and entries of menus."""
    if not isinstance(text, str):
        return False
    return _NAME.fullmatch(text) is not None or _ENTRY.fullmatch(text) is not None


def find(request: str, available: Iterable[Device]) -> str | None:
    """The name of the first of `available` that `request` means, or None. "xpu" is any xpu:N.

    Raises `ValueError` if `request` is "auto" or no device name at all.
    """
    if request == AUTO or not is_device_name(request):
        raise ValueError(f"{request!r} names no device. Use cpu, cuda[:n], xpu[:n] or xpu@uuid.")
    if request == CPU:
        return CPU
    there = tuple(available)
    for device in there:
        kinds = (device.kind,) if not device.worker else ()
        if request in (device.name, device.stable_name, *kinds):
            return device.name
    meant = [device for device in there if device.is_entry(request)]
    same_number = [one for one in meant if request.startswith(one.name.partition("@")[0] + " ")]
    # Of equal cards without a mark, only the number tells one from the other.
    if not same_number and len(meant) != 1:
        return None
    return (same_number or meant)[0].name


def choose(request: str, available: Sequence[Device]) -> str:
    """The name of the device to use: `request` unless that is "auto", else CUDA > XPU > CPU.

    Raises `ValueError` if `request` is no device name, `DeviceAbsentError` if what it
    names is not among `available`: a forced device never falls back silently.
    """
    if request != AUTO:
        found = find(request, available)
        if found is None:
            raise DeviceAbsentError(absent_message(request, available))
        return found
    return find("cuda", available) or find("xpu", available) or CPU


def absent_message(request: str, available: Sequence[Device]) -> str:
    there = ", ".join(device.name for device in available) or "none"
    return (
        f"The device {request!r} was asked for, but torch does not offer it here "
        f"(devices: {there}). Choose one of these or 'auto', or check that the card's driver "
        f"is installed and that this torch was built for {re.split('[:@]', request)[0]}."
    )


def discover() -> tuple[Device, ...]:
    """The devices that torch offers in this process: every CUDA card, every XPU, the CPU."""
    import torch

    found: list[Device] = []
    if torch.cuda.is_available():
        found += _cards("cuda", torch.cuda)
    # torch before 2.4 has no torch.xpu.
    xpu = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available():
        found += _cards("xpu", xpu)
    found.append(Device(CPU, "CPU"))
    return tuple(found)


def _cards(kind: str, backend: ModuleType) -> list[Device]:
    cards = []
    for index in range(backend.device_count()):
        properties = backend.get_device_properties(index)
        # torch before 2.6 gives no uuid.
        uuid = getattr(properties, "uuid", None)
        identity = None if uuid is None else str(uuid)
        memory = getattr(properties, "total_memory", None)
        cards.append(Device(f"{kind}:{index}", properties.name, identity, memory))
    return cards
