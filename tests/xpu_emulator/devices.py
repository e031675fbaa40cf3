"""Which cards to emulate, and how: the request, as data. No torch is needed here."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from .profiles import DeviceProfile, profile_named

MAX_DEVICES = 4  # csrc/device_state.h says why there is a limit

OomStyle = Literal["torch", "out_of_device_memory", "out_of_resources"]
Attention = Literal["fused", "math"]

_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def parse_size(text: str) -> int:
    """Return a number of bytes from "1073741824", "512 MiB" or "1.5GiB".

    Raises ValueError for anything else; KB, MB and GB are refused as ambiguous.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a size. Write bytes, or a number with KiB, MiB or GiB.")
    return int(float(match[1]) * _UNITS[match[2]])


@dataclasses.dataclass(frozen=True)
class DeviceSpec:
    """One card: a profile and what is different about this one. Sizes are in bytes.

    `external_memory` is held by other processes. `max_allocation` bounds a single
    allocation; 0 means that only the total does. `has_fp64` overrides the profile.
    `fp64_storage` lets a card without fp64 store and copy float64, as real ones
    do; by default already creating such a tensor is refused. `oom` chooses the
    error of an exhausted card. `mem_get_info` is "true", "raises" (as on
    integrated GPUs, whose default it is), "all_free", or the bytes to claim free.
    """

    profile: DeviceProfile
    total_memory: int | None = None
    external_memory: int = 0
    max_allocation: int = 0
    has_fp64: bool | None = None
    fp64_storage: bool = False
    oom: OomStyle = "torch"
    mem_get_info: Literal["true", "raises", "all_free"] | int | None = None

    def properties(self) -> DeviceProfile:
        """Return what ``torch.xpu.get_device_properties`` shows of this card."""
        has_fp64 = self.profile.has_fp64 if self.has_fp64 is None else self.has_fp64
        total = self.profile.total_memory if self.total_memory is None else self.total_memory
        return dataclasses.replace(self.profile, total_memory=total, has_fp64=has_fp64)

    def free_memory_answer(self) -> Literal["true", "raises", "all_free"] | int:
        """Return `mem_get_info` with the profile's default filled in."""
        if self.mem_get_info is None:
            return "raises" if self.profile.is_integrated_gpu else "true"
        return self.mem_get_info


@dataclasses.dataclass(frozen=True)
class Options:
    """What holds for all cards.

    `async_copies` delays non-blocking copies and poisons their destination until
    something waits. `poison` fills fresh memory with NaN bytes. `attention` models
    scaled_dot_product_attention as one kernel, or with its matrix of scores in
    memory. `rng_like_cpu` draws the CPU's numbers from a seed. `denied_ops` are
    base names ("aten::sort") that raise NotImplementedError.
    """

    async_copies: bool = False
    poison: bool = False
    attention: Attention = "fused"
    rng_like_cpu: bool = False
    denied_ops: tuple[str, ...] = ()


DeviceRequest = str | DeviceProfile | DeviceSpec


def device_spec(request: DeviceRequest) -> DeviceSpec:
    """Return a DeviceSpec for a profile's name, a profile, or a spec."""
    if isinstance(request, str):
        request = profile_named(request)
    return DeviceSpec(request) if isinstance(request, DeviceProfile) else request


def _selected(selector: str, count: int) -> set[int]:
    """Return the ordinals that ``ONEAPI_DEVICE_SELECTOR`` leaves of `count` GPUs."""
    chosen: set[int] = set()
    for term in selector.split(";"):
        backend, _, devices = term.strip().lower().partition(":")
        if backend not in ("level_zero", "*"):
            continue
        for device in devices.split(","):
            if device in ("*", "gpu"):
                chosen.update(range(count))
            elif device.isdigit():
                chosen.add(int(device))
    return chosen


def visible_devices(
    requests: Iterable[DeviceRequest], environ: Mapping[str, str] = os.environ
) -> list[DeviceSpec]:
    """Return the cards that torch would list, of those in the machine.

    As the runtime does, ``ZE_AFFINITY_MASK`` (ordinals) and
    ``ONEAPI_DEVICE_SELECTOR`` (``level_zero:...``) choose among them; as torch
    does, integrated GPUs disappear beside a discrete one. Raises ValueError for
    more than MAX_DEVICES.
    """
    specs: Sequence[DeviceSpec] = [device_spec(request) for request in requests]
    mask = environ.get("ZE_AFFINITY_MASK")
    if mask is not None:
        wanted = [int(part) for part in mask.split(",") if part.strip().isdigit()]
        specs = [specs[ordinal] for ordinal in wanted if ordinal < len(specs)]
    selector = environ.get("ONEAPI_DEVICE_SELECTOR")
    if selector is not None:
        kept = _selected(selector, len(specs))
        specs = [spec for ordinal, spec in enumerate(specs) if ordinal in kept]
    discrete = [spec for spec in specs if not spec.profile.is_integrated_gpu]
    result = discrete or list(specs)
    if len(result) > MAX_DEVICES:
        raise ValueError(f"At most {MAX_DEVICES} devices can be emulated, not {len(result)}.")
    return result
