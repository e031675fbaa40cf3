"""Give torch's own ``torch.xpu`` the C functions that a build with XPU has.

``torch/xpu/*.py`` stays as it is and runs unmodified: only what it looks up in
``torch._C`` is supplied. What it decided while it was imported (dummy classes,
"not compiled") is decided again.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .profiles import DeviceProfile

_XPU_DEVICE_TYPE = 12  # c10::DeviceType::XPU
_XPU_TOOLKIT_VERSION = "20250301"  # torch.version.xpu of the 2.8 wheels: the SYCL compiler's
_TORCH_FUNCTIONS = (
    "getDeviceCount",
    "getDevice",
    "setDevice",
    "exchangeDevice",
    "maybeExchangeDevice",
    "synchronize",
    "emptyCache",
    "memoryStats",
    "resetPeakMemoryStats",
    "resetAccumulatedMemoryStats",
    "getMemoryInfo",
    "getMemoryFraction",
    "setMemoryFraction",
)


def hide_cuda() -> None:
    """Make a torch that was built for CUDA say that it was not.

    torch asserts in places that it has one accelerator, and programs take
    ``torch.version.cuda`` for the presence of an NVIDIA card.
    """
    torch.version.cuda = None
    torch._C._has_cuda = False
    torch.cuda._is_compiled = lambda: False


def announce_xpu() -> None:
    """Set the version strings of a torch wheel for XPU."""
    plain = str(torch.__version__).split("+")[0]
    version = type(torch.__version__)(f"{plain}+xpu")
    torch.__version__ = version
    torch.version.__version__ = str(version)
    torch.version.xpu = _XPU_TOOLKIT_VERSION


def become_the_accelerator(library: types.ModuleType) -> None:
    """Make ``torch.accelerator`` count these devices."""
    torch._C._accelerator_deviceCount = library.xpu_getDeviceCount


def _stream_base(library: types.ModuleType) -> type:
    class _XpuStreamBase(torch.Stream):
        """What torch.xpu.Stream derives from in a build with XPU."""

        def __new__(
            cls,
            priority: int = 0,
            stream_id: int = 0,
            device_index: int = 0,
            device_type: int = 0,
            **unused: Any,
        ) -> Any:
            if device_type:
                return super().__new__(
                    cls, stream_id=stream_id, device_index=device_index, device_type=device_type
                )
            device = torch.device("xpu", library.xpu_getDevice())
            return super().__new__(cls, device=device, priority=priority)

        @property
        def sycl_queue(self) -> int:
            # The address of a queue that does not exist: distinct for each stream.
            return (self.device_index + 1) << 32 | (self.stream_id + 1)

    return _XpuStreamBase


def _event_base(library: types.ModuleType) -> type:
    class _XpuEventBase(torch.Event):
        """What torch.xpu.Event derives from in a build with XPU."""

        def __new__(cls, enable_timing: bool = False, **unused: Any) -> Any:
            device = torch.device("xpu", library.xpu_getDevice())
            event = super().__new__(cls, device=device, enable_timing=enable_timing)
            event._times = enable_timing
            return event

        @property
        def sycl_event(self) -> int:
            return self.event_id

        def elapsed_time(self, end_event: Any) -> float:
            # torch.Event's own refuses subclasses.
            if not (self._times and end_event._times):
                raise ValueError("Both events must be created with argument 'enable_timing=True'.")
            return library.elapsed_ms(self.event_id, end_event.event_id)

    return _XpuEventBase


def _replace_streams(library: types.ModuleType) -> None:
    torch._C._XpuStreamBase = _stream_base(library)
    torch._C._XpuEventBase = _event_base(library)
    # The module's classes derive from what it found when it was first imported.
    streams = importlib.reload(sys.modules["torch.xpu.streams"])
    torch.xpu.Stream = streams.Stream
    torch.xpu.Event = streams.Event


def _current_stream(library: types.ModuleType) -> Callable[[int], tuple[int, int, int]]:
    def current_stream(device: int) -> tuple[int, int, int]:
        return library.current_stream_id(device), device, _XPU_DEVICE_TYPE

    return current_stream


def _set_stream(library: types.ModuleType) -> Callable[..., None]:
    def set_stream(stream_id: int, device_index: int, device_type: int) -> None:
        library.xpu_setDevice(device_index)
        library.exchange_stream_id(device_index, stream_id)

    return set_stream


def _unsupported(what: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"The emulated XPU has no {what}.")

    return refuse


def install_functions(library: types.ModuleType, initialise: Callable[[], None]) -> None:
    """Supply ``torch._C._xpu_*``; `initialise` is called by torch's lazy initialisation."""
    core = torch._C
    core._has_xpu = True
    for name in _TORCH_FUNCTIONS:
        setattr(core, f"_xpu_{name}", getattr(library, f"xpu_{name}"))
    core._xpu_init = initialise
    core._xpu_getCurrentStream = _current_stream(library)
    core._xpu_getCurrentRawStream = library.current_stream_id
    core._xpu_setStream = _set_stream(library)
    core._xpu_canDeviceAccessPeer = lambda device, peer: device == peer
    core._xpu_getArchFlags = lambda: "pvc,bmg,dg2,lnl-m"
    core._xpu_memorySnapshot = lambda pool: {
        "segments": library.snapshot_segments(),
        "device_traces": [],
    }
    core._xpu_getStreamFromExternal = _unsupported("SYCL queues to share")
    core._xpu_recordMemoryHistory = _unsupported("allocation history")
    core._xpu_sleep = _unsupported("device clock")
    _install_fork_check()
    _replace_streams(library)
    torch.xpu._exchange_device = library.xpu_exchangeDevice
    torch.xpu._maybe_exchange_device = library.xpu_maybeExchangeDevice
    # Whatever Level Zero's own enumeration would find is not what is emulated.
    torch.xpu._device_count_zes = lambda: -1
    torch.xpu._raw_device_count_zes = lambda mask: -1


def _install_fork_check() -> None:
    forked = False

    def after_fork() -> None:
        nonlocal forked
        forked = torch.xpu._initialized

    os.register_at_fork(after_in_child=after_fork)
    torch._C._xpu_isInBadFork = lambda: forked
    torch.xpu._is_in_bad_fork = torch._C._xpu_isInBadFork


def publish_devices(library: types.ModuleType, profiles: Sequence[DeviceProfile]) -> None:
    """Tell ``torch.xpu`` which devices there are: properties, generators, counts."""
    generators = tuple(library.default_generator(index) for index in range(len(profiles)))
    # No two cards of a machine have the same uuid; its last digits are free in the profiles.
    properties = [
        dataclasses.replace(profile, uuid=f"{profile.uuid[:-2]}{index:02x}")
        for index, profile in enumerate(profiles)
    ]

    def get_device_properties(device: int) -> DeviceProfile:
        if not 0 <= device < len(properties):
            raise RuntimeError(
                f"The device index is out of range. It must be in [0, {len(properties)}), "
                f"but got {device}."
            )
        return properties[device]

    torch._C._XpuDeviceProperties = DeviceProfile
    torch.xpu._XpuDeviceProperties = DeviceProfile
    torch.xpu._get_device_properties = get_device_properties
    torch.xpu.default_generators = generators
    torch.xpu.get_device_capability.cache_clear()
    torch.xpu._cached_device_count = None
    clear = getattr(torch.xpu.device_count, "cache_clear", None)
    if clear is not None:  # before torch 2.9
        clear()
