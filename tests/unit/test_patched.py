"""What a patched host calls: its functions as the table replaces them, or as they are."""

import logging
import sys
import types
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from comfyui_ipex.xpu_runtime import host, patched, runtime, server_hooks
from comfyui_ipex.xpu_runtime.devices import CPU, Device
from comfyui_ipex.xpu_runtime.host import HostArguments, patches
from comfyui_ipex.xpu_runtime.priority import Primary
from comfyui_ipex.xpu_runtime.seam import Seam
from comfyui_ipex.xpu_runtime.seams import PATCHED, Circumstances, seams
from comfyui_ipex.xpu_runtime.seams.memory import MemoryReader
from toy_hosts import MODULE, free_memory, seam, toy_host

CPU_ONLY = (Device(CPU, "CPU"),)
INTEL = (Device("xpu:0", "Arc"), Device("xpu:1", "Arc"), *CPU_ONLY)

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Makes this process a patched toy host that has not asked for its devices yet."""

    def prepare(*rows: Seam, found: tuple[Device, ...] = INTEL, **settings: str) -> None:
        decision = runtime.Decision(found, Primary("xpu", None, None), MemoryReader(), rows)
        monkeypatch.setattr(runtime, "decide", lambda: decision)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    def forget() -> None:
        patched._decision.cache_clear()
        patched._wanted.cache_clear()
        patched._covered.clear()

    forget()
    with toy_host():
        yield prepare
    forget()


def decorated(name: str = "free-memory") -> Any:
    """What stands in the host for a function that bears the decorator."""
    return patched.on_xpu(name)(free_memory)


def test_without_an_xpu_a_function_is_itself_and_costs_nothing(machine: Machine) -> None:
    machine(found=CPU_ONLY)
    assert decorated() is free_memory
    assert patched.covered() == frozenset()


def test_with_one_it_is_what_the_row_makes_of_it(machine: Machine) -> None:
    machine(seam())
    found = decorated()
    assert found("a card", torch_free_too=True) == ("ours", ("host", "a card", True))
    assert found.__wrapped__ is free_memory
    assert found.__name__ == "free_memory"
    assert patched.covered() == {"free-memory"}
    assert decorated("another") is free_memory


def test_a_row_that_is_not_needed_leaves_the_function_alone(machine: Machine) -> None:
    machine(seam(not_needed=lambda: "this system has it"))
    assert decorated() is free_memory
    assert patched.covered() == frozenset()


def test_whether_a_row_is_needed_may_depend_on_the_function_that_is_being_defined(
    machine: Machine,
) -> None:
    target = f"{MODULE}:brand_new"
    seen: list[Any] = []
    machine(seam("new", target, not_needed=lambda: seen.append(sys.modules[MODULE].brand_new)))
    assert decorated("new") is not free_memory
    assert seen == [free_memory]


def test_a_disabled_row_leaves_the_function_alone(machine: Machine) -> None:
    machine(seam(), COMFYUI_IPEX_DISABLE="free-memory")
    assert decorated() is free_memory
    assert patched.covered() == frozenset()


def test_an_unknown_name_in_the_settings_ends_the_process(machine: Machine) -> None:
    machine(seam(), COMFYUI_IPEX_DISABLE="free-memroy")
    with pytest.raises(SystemExit, match="No seam is called 'free-memroy'"):
        decorated()


def without_arguments() -> None:
    """What another version of the host may have made of the function."""


def test_a_row_that_does_not_fit_is_a_warning_and_the_function_itself(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine(seam(replace=lambda original: lambda device: original()))
    with caplog.at_level(logging.WARNING):
        assert patched.on_xpu("free-memory")(without_arguments) is without_arguments
    [record] = caplog.records
    assert "free-memory does not fit this ComfyUI" in record.getMessage()
    assert "Without it: models do not fit" in record.getMessage()


def test_a_required_row_that_does_not_fit_ends_the_process(machine: Machine) -> None:
    row = seam(replace=lambda original: lambda device: original())
    machine(row, COMFYUI_IPEX_REQUIRE="free-memory")
    with pytest.raises(SystemExit, match="required by your settings"):
        patched.on_xpu("free-memory")(without_arguments)


def test_a_driver_that_fails_changes_nothing_and_is_logged(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise RuntimeError("UR_RESULT_ERROR_UNKNOWN")

    machine()
    monkeypatch.setattr(runtime, "decide", fails)
    assert decorated() is free_memory
    assert "comfyui-ipex failed while ComfyUI was starting" in caplog.text
    listed: list[dict[str, Any]] = []
    patched.add_devices(listed)
    assert listed == []


def test_contradicting_arguments_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "arguments", lambda: HostArguments(cpu=True, force_intel_xpu=True))
    with pytest.raises(SystemExit, match="--force-intel-xpu and --cpu ask for different devices"):
        patched.refuse_conflicts()


def test_cards_that_the_host_leaves_out_of_system_stats_are_added(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    monkeypatch.setattr(server_hooks, "hides_devices", lambda found: True)
    monkeypatch.setattr(server_hooks, "_row", lambda name: {"type": "xpu", "index": int(name[-1])})
    listed: list[dict[str, Any]] = [{"type": "xpu", "index": 0}]
    patched.add_devices(listed)
    assert listed == [{"type": "xpu", "index": 0}, {"type": "xpu", "index": 1}]


@pytest.mark.parametrize(
    ("kind", "lowvram", "told"), [("xpu", False, 1), ("xpu", True, 0), ("cuda", False, 0)]
)
def test_optimisations_hear_of_models_that_are_whole_on_an_xpu(
    kind: str, lowvram: bool, told: int
) -> None:
    heard: list[Any] = []
    patcher = SimpleNamespace(model=SimpleNamespace(model_lowvram=lowvram))
    assert patched.on_full_load == []
    patched.on_full_load.append(heard.append)
    try:
        patched.loaded(patcher, SimpleNamespace(type=kind))
    finally:
        patched.on_full_load.clear()
    assert heard == [patcher] * told


def test_in_a_patched_host_a_covered_row_of_the_table_is_not_needed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's copy of this package is another instance of it."""
    copy: Any = types.ModuleType(patches.PATCHED)
    copy.covered = lambda: frozenset({"free-memory"})
    imported: list[str] = []
    monkeypatch.setattr(patches.importlib, "import_module", imported.append)
    table = seams(Circumstances(Primary("xpu", None, None), 2, False, None), MemoryReader())
    rows = {row.name: row for row in table}
    assert rows["free-memory"].not_needed() is None
    assert imported == []
    monkeypatch.setitem(sys.modules, patches.PATCHED, copy)
    assert rows["free-memory"].not_needed() == PATCHED
    assert rows["total-memory"].not_needed() is None
    # A module says what is patched in it only when it is executed.
    assert imported == ["comfy.model_management"] * 2
