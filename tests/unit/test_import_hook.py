"""Something runs around one module's import, and the import system does not notice."""

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from comfyui_ipex.xpu_runtime.import_hook import around_import

NAME = "hooked_for_a_test"


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What happened in this order; the module `NAME` can be imported and takes part."""
    happened: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "happened", happened, raising=False)
    # Without pytest's finder, whose loader is one for all modules.
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    source = "import sys\nsys.happened.append(type(__loader__).__name__)\nVALUE = 1\n"
    (tmp_path / f"{NAME}.py").write_text(source)
    importlib.invalidate_caches()
    yield happened
    sys.modules.pop(NAME, None)


def listen(events: list[str]) -> None:
    """Note what the hook calls."""
    around_import(NAME, lambda: events.append("before"), lambda: events.append("after"))


def raising(error: BaseException) -> Callable[[], None]:
    """A function that raises `error`."""

    def call() -> None:
        raise error

    return call


AROUND = ["before", "SourceFileLoader", "after"]


def test_before_and_after_are_called_around_the_execution(events: list[str]) -> None:
    listen(events)
    assert importlib.import_module(NAME).VALUE == 1
    assert events == AROUND


def test_afterwards_nothing_shows_that_anybody_listened(events: list[str]) -> None:
    finders = list(sys.meta_path)
    listen(events)
    module = importlib.import_module(NAME)
    assert sys.meta_path == finders
    assert type(module.__loader__) is SourceFileLoader
    assert module.__spec__.loader is module.__loader__
    assert module.__spec__.origin == module.__file__
    assert "VALUE = 1" in inspect.getsource(module)
    importlib.reload(module)
    assert events == [*AROUND, "SourceFileLoader"]


def test_other_modules_are_left_to_the_other_finders(events: list[str], tmp_path: Path) -> None:
    (tmp_path / f"{NAME}_2.py").write_text("")
    listen(events)
    other = importlib.import_module(f"{NAME}_2")
    assert type(other.__spec__.loader) is SourceFileLoader
    assert events == []


def test_what_is_imported_already_is_only_followed_by_after(events: list[str]) -> None:
    importlib.import_module(NAME)
    finders = list(sys.meta_path)
    listen(events)
    assert events == ["SourceFileLoader", "after"]
    assert sys.meta_path == finders


def test_a_spec_that_is_asked_for_and_never_executed_changes_nothing(events: list[str]) -> None:
    listen(events)
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader.get_filename(NAME) == spec.origin  # type: ignore[union-attr]
    assert events == []
    importlib.import_module(NAME)
    assert events == AROUND
    # Its turn came too late: the module was executed by then, and listeners were told.
    spec.loader.exec_module(importlib.util.module_from_spec(spec))  # type: ignore[union-attr]
    assert events == [*AROUND, "SourceFileLoader"]


class Listener:
    """Another pack's finder, which asks all finders but itself, as ours does."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def find_spec(
        self, name: str, path: object, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Note that it was asked for the module."""
        if name != NAME:
            return None
        self.events.append("asked")
        found = (f.find_spec(name, path, target) for f in sys.meta_path if f is not self)
        return next((spec for spec in found if spec is not None), None)


@pytest.mark.parametrize("first", [True, False])
def test_finders_that_ask_each_other_do_not_go_round_in_circles(
    events: list[str], first: bool
) -> None:
    if first:
        listen(events)
    sys.meta_path.insert(0, Listener(events))
    if not first:
        listen(events)
    importlib.import_module(NAME)
    assert [event for event in events if event != "asked"] == AROUND
    assert "asked" in events


def test_two_listeners_are_both_called(events: list[str]) -> None:
    listen(events)
    listen(events)
    module = importlib.import_module(NAME)
    assert events == ["before", *AROUND, "after"]
    assert type(module.__spec__.loader) is SourceFileLoader


def test_a_finder_of_the_old_kind_is_passed_over(events: list[str]) -> None:
    sys.meta_path.insert(0, object())  # type: ignore[arg-type]
    listen(events)
    importlib.import_module(NAME)
    assert events == AROUND


def test_a_module_that_nobody_finds_is_absent_as_ever(events: list[str]) -> None:
    around_import(f"{NAME}_absent", lambda: events.append("before"), lambda: None)
    with pytest.raises(ModuleNotFoundError, match=f"{NAME}_absent"):
        importlib.import_module(f"{NAME}_absent")
    assert events == []


def test_a_folder_without_code_is_imported_as_ever(events: list[str], tmp_path: Path) -> None:
    (tmp_path / f"{NAME}_folder").mkdir()
    around_import(f"{NAME}_folder", lambda: events.append("before"), lambda: None)
    assert importlib.import_module(f"{NAME}_folder").__file__ is None
    assert sys.modules.pop(f"{NAME}_folder") is not None


@pytest.mark.parametrize("error", [RuntimeError("driver"), AttributeError("new host")])
def test_an_error_of_ours_is_logged_and_the_module_is_imported(
    events: list[str], caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    around_import(NAME, raising(error), raising(error))
    with caplog.at_level(logging.ERROR):
        assert importlib.import_module(NAME).VALUE == 1
    assert events == ["SourceFileLoader"]
    assert [record.exc_info[1] for record in caplog.records] == [error, error]
    assert all("report this" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_end_of_the_process_cannot_be_dodged_by_another_try(
    events: list[str], moment: str
) -> None:
    calls = {"before": lambda: None, "after": lambda: None, moment: raising(SystemExit("no card"))}
    around_import(NAME, calls["before"], calls["after"])
    for _ in range(2):
        with pytest.raises(SystemExit, match="no card"):
            importlib.import_module(NAME)
    assert NAME not in sys.modules


def test_a_module_that_fails_is_listened_to_when_it_is_tried_again(
    events: list[str], tmp_path: Path
) -> None:
    source = tmp_path / f"{NAME}.py"
    good = source.read_text()
    source.write_text("raise ValueError('broken')  # and longer than what follows, for the cache")
    listen(events)
    with pytest.raises(ValueError, match="broken"):
        importlib.import_module(NAME)
    source.write_text(good)
    importlib.import_module(NAME)
    assert events == ["before", *AROUND]
