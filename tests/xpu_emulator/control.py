"""The hand on the emulated cards: what a test changes and reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

from . import torch_xpu
from .devices import DeviceRequest, DeviceSpec, Options, visible_devices

LevelZeroError = Literal["out_of_device_memory", "out_of_resources", "device_lost"]

# The texts in which Unified Runtime's results reach Python:
# https://github.com/pytorch/pytorch/issues/190972 (20 and 40) and
# https://github.com/open-edge-platform/physical-ai-studio/issues/440 (39)
LEVEL_ZERO_TEXTS: dict[LevelZeroError, str] = {
    "device_lost": "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
    "out_of_device_memory": (
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
    ),
    "out_of_resources": (
        "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)"
    ),
}

# Operators with a kernel of the emulator's own that passes the common gate.
_GATED_KERNELS = frozenset(
    {
        "aten::convolution_overrideable",
        "aten::convolution_backward_overrideable",
        "aten::scaled_dot_product_attention",
    }
)


class DeviceControl:
    """One emulated card."""

    def __init__(self, library: ModuleType, index: int, spec: DeviceSpec) -> None:
        self._library = library
        self.index = index
        self.spec = spec
        self._apply()

    def _apply(self) -> None:
        properties = self.spec.properties()
        config = self._library.DeviceConfig()
        config.name = properties.name
        config.total_memory = properties.total_memory
        config.external_memory = self.spec.external_memory
        config.max_allocation = self.spec.max_allocation
        config.has_fp64 = properties.has_fp64
        config.fp64_storage = self.spec.fp64_storage
        styles = self._library.OomStyle
        config.oom_style = getattr(styles, self.spec.oom)
        answer = self.spec.free_memory_answer()
        config.mem_get_info_raises = answer == "raises"
        if answer == "all_free":
            config.mem_get_info_free = properties.total_memory
        elif isinstance(answer, int):
            config.mem_get_info_free = answer
        self._library.configure(self.index, config)

    def change(self, **changes: Any) -> None:
        """Change fields of the card's DeviceSpec, for example ``external_memory=2 << 30``.

        The properties that torch has shown already (profile, total_memory,
        has_fp64) cannot change under a running program: raises ValueError.
        """
        fixed = {"profile", "total_memory", "has_fp64"} & changes.keys()
        if fixed:
            raise ValueError(
                f"{', '.join(sorted(fixed))} cannot change while the card is visible. "
                "Call EmulatedXpu.configure(devices) instead."
            )
        self.spec = replace(self.spec, **changes)
        self._apply()

    def fail_allocation(self, nth: int = 1) -> None:
        """Make the `nth` allocation from now run out of memory; 0 takes it back."""
        self._library.set_failures(self.index, nth, 0, 0, "")

    def fail_kernel(self, nth: int = 1, error: LevelZeroError = "out_of_resources") -> None:
        """Make the `nth` kernel from now raise Level Zero's plain RuntimeError; 0: none."""
        self._library.set_failures(self.index, 0, nth, 0, LEVEL_ZERO_TEXTS[error])

    def fail_copy(self, nth: int = 1, error: LevelZeroError = "out_of_resources") -> None:
        """Make the `nth` copy to, from or on the card raise Level Zero's RuntimeError; 0: none."""
        self._library.set_failures(self.index, 0, 0, nth, LEVEL_ZERO_TEXTS[error])

    def lose(self) -> None:
        """Lose the card: every later call on it raises UR_RESULT_ERROR_DEVICE_LOST."""
        self._library.set_lost(self.index, True)

    def counters(self) -> dict[str, Any]:
        """Return what happened on the card since the last reset.

        `kernels`, `items` (single values read by the host), `synchronizes`
        (explicit ones), `allocations`, `ooms`, and for `h2d`, `d2h`, `d2d` and
        `peer` (to this card from another) a dict of `count`, `bytes` and
        `non_blocking`.
        """
        return self._library.counters(self.index)

    def op_calls(self) -> dict[str, int]:
        """Return how often each operator reached the card, by full name."""
        return self._library.op_calls(self.index)

    def reset_counters(self) -> None:
        """Set the counters to zero; op_calls are reset by EmulatedXpu.reset_counters."""
        self._library.reset_counters(self.index)


class EmulatedXpu:
    """All emulated cards of this process. There is one: see xpu_emulator.current()."""

    def __init__(self, library: ModuleType) -> None:
        self._library = library
        self.devices: list[DeviceControl] = []
        self.options = Options()

    def configure(
        self, devices: Iterable[DeviceRequest], options: Options | None = None, **changes: Any
    ) -> None:
        """Replace the cards, 0 to 4 of them, and set the options.

        Cached memory, statistics, counters, failures and losses of the old cards
        are forgotten; tensors that are still alive stay accounted on the card of
        the same index. `changes` are fields of Options. The runtime's environment
        variables, which install() obeys, do not count here.
        """
        specs = visible_devices(devices, environ={})
        self._library.carry_out_all_copies()
        for index in range(self._library.max_devices):
            self._library.set_lost(index, False)
            self._library.set_failures(index, 0, 0, 0, "")
            self._library.reset_memory(index)
            self._library.reset_counters(index)
        self._library.reset_op_calls()
        self._library.set_device_count(len(specs))
        self.devices = [
            DeviceControl(self._library, index, spec) for index, spec in enumerate(specs)
        ]
        torch_xpu.publish_devices(self._library, [spec.properties() for spec in specs])
        if specs:
            self._library.xpu_setDevice(0)
        self.set_options(**asdict(replace(options or Options(), **changes)))

    def set_options(self, **changes: Any) -> None:
        """Change fields of Options. Raises ValueError for an operator that cannot be denied."""
        options = replace(self.options, **changes)
        for name in options.denied_ops:
            _check_deniable(name)
        self.options = options
        self._library.set_options(
            options.async_copies,
            options.poison,
            options.attention == "fused",
            options.rng_like_cpu,
        )
        self._library.set_denied_ops(list(options.denied_ops))

    def deny(self, *names: str) -> None:
        """Add base names of operators ("aten::sort") to those that are refused."""
        self.set_options(denied_ops=(*self.options.denied_ops, *names))

    def reset_counters(self) -> None:
        """Set all counters and the operators' calls to zero."""
        for device in self.devices:
            device.reset_counters()
        self._library.reset_op_calls()

    def report(self) -> dict[str, Any]:
        """Return all cards, counters, operators and memory statistics, ready for JSON."""
        return {
            "torch": str(torch.__version__),
            "options": asdict(self.options),
            "devices": [
                {
                    "index": device.index,
                    "properties": asdict(device.spec.properties()),
                    "counters": device.counters(),
                    "op_calls": device.op_calls(),
                    "memory": self._library.xpu_memoryStats(device.index),
                }
                for device in self.devices
            ],
        }

    def write_report(self, path: Path) -> None:
        """Write report() as JSON to `path`, replacing the file in one step."""
        temporary = path.with_name(f"{path.name}.part")
        temporary.write_text(json.dumps(self.report(), indent=1), encoding="utf-8")
        temporary.replace(path)


def _check_deniable(name: str) -> None:
    if "." in name:
        raise ValueError(
            f"{name!r} names an overload. Deny the base name, {name.split('.')[0]!r}: one overload "
            "is often run through another."
        )
    overloads = [
        full for full in torch._C._dispatch_get_all_op_names() if full.split(".")[0] == name
    ]
    if not overloads:
        raise ValueError(f"torch has no operator {name!r}. Names look like 'aten::sort'.")
    reaches = name in _GATED_KERNELS or any(
        torch._C._dispatch_has_kernel_for_dispatch_key(full, "CPU")
        and not torch._C._dispatch_has_kernel_for_dispatch_key(full, "XPU")
        for full in overloads
    )
    if not reaches:
        raise ValueError(
            f"{name!r} never reaches a kernel of the card: it is decomposed, or only handles "
            "memory. Deny what it becomes; DeviceControl.op_calls() shows that."
        )
