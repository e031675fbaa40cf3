"""Seams beside other packs: verified, taken out, and every kind of target put back exactly."""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from comfyui_ipex.xpu_runtime.seam import Installation, SeamState
from toy_hosts import MODULE, add_module, made_by, ours, pass_through, seam, toy_host


@pytest.fixture
def host() -> Iterator[Any]:
    with toy_host() as module:
        yield module


@pytest.fixture
def installation(host: Any) -> Installation:
    """With the one seam on `free_memory` installed."""
    made = Installation([seam()])
    made.install()
    return made


def theirs(function: Callable[..., Any]) -> Any:
    """A wrapper as the module toy_pack would make it."""
    return made_by("toy_pack", pass_through(function))


def test_uninstall_restores_the_host_and_install_may_follow(host: Any) -> None:
    before = dict(vars(host))
    installation = Installation([seam("a"), seam("b"), seam("off", not_needed=lambda: "patched")])
    for _ in range(2):
        installation.install()
        states = [status.text for status in installation.uninstall()]
        assert states == ["removed", "removed", "not needed (patched)"]
        assert vars(host) == before
        assert installation.verify() == installation.statuses() == installation.uninstall()


def test_what_another_pack_put_there_is_reported_and_left_alone(
    host: Any, installation: Installation
) -> None:
    host.free_memory = other = theirs(len)
    for look in (installation.verify, installation.install, installation.uninstall):
        (status,) = look()
        assert status.text == "overwritten (by toy_pack)"
        assert host.free_memory is other


def test_the_host_restoring_its_own_function_is_overwriting(
    host: Any, installation: Installation
) -> None:
    """ComfyUI does this to some functions after custom nodes were loaded."""
    host.free_memory = host.free_memory.__wrapped__
    assert installation.verify()[0].text == f"overwritten (by {MODULE})"


def test_a_deleted_attribute_is_left_alone(host: Any, installation: Installation) -> None:
    del host.free_memory
    assert installation.verify()[0].text == "overwritten (by nobody: the attribute is gone)"
    installation.uninstall()
    assert not hasattr(host, "free_memory")


def wraps_as_multigpu(function: Callable[..., Any]) -> Any:
    wrapper = theirs(function)
    wrapper._multigpu_original = function
    return wrapper


def wraps_politely(function: Callable[..., Any]) -> Any:
    return functools.wraps(function)(theirs(function))


def wraps_twice(function: Callable[..., Any]) -> Any:
    return wraps_politely(wraps_politely(function))


@pytest.mark.parametrize("wrap", [wraps_politely, wraps_twice, wraps_as_multigpu])
def test_a_wrapper_around_ours_is_no_overwriting(
    host: Any, installation: Installation, wrap: Callable[..., Any]
) -> None:
    replacement = host.free_memory
    host.free_memory = wrapper = wrap(replacement)
    assert installation.verify()[0].text == "installed (wrapped by toy_pack)"
    second = Installation([seam()])
    assert second.install()[0].text == "installed (by an earlier installation; wrapped by toy_pack)"
    assert host.free_memory is wrapper
    # Taking ours out from under a wrapper is impossible; when the wrapper goes, so can ours.
    assert installation.uninstall()[0].text == "overwritten (wrapped by toy_pack)"
    assert host.free_memory is wrapper
    host.free_memory = replacement
    assert installation.verify()[0].text == "installed"
    assert installation.uninstall()[0].state is SeamState.REMOVED
    assert host.free_memory is replacement.__wrapped__


def test_a_chain_of_wrappers_that_bites_its_tail_ends(
    host: Any, installation: Installation
) -> None:
    one, other = theirs(len), theirs(len)
    one.__wrapped__, other.__wrapped__ = other, one
    host.free_memory = one
    assert installation.verify()[0].text == "overwritten (by toy_pack)"


def test_other_packs_objects_run_no_code_when_we_look_at_them(
    host: Any, installation: Installation
) -> None:
    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None

    host.free_memory = Hostile()
    assert installation.verify()[0].text == f"overwritten (by {__name__})"


METHODS = ["load", "count", "make"]


def answers(loader: Any) -> list[Any]:
    return [
        loader().load("m", lowvram=2),
        loader.load(loader(), "m"),
        loader.count(),
        loader().count(start=4),
        loader.make("n"),
        loader().make(name="n"),
    ]


@pytest.mark.parametrize("class_name", ["Loader", "QuickLoader"])
def test_methods_of_every_kind_are_replaced_and_restored_exactly(
    host: Any, class_name: str
) -> None:
    loader = getattr(host, class_name)
    before, expected = dict(vars(loader)), answers(loader)
    installation = Installation([seam(m, f"{MODULE}:{class_name}.{m}") for m in METHODS])
    assert {status.text for status in installation.install()} == {"installed"}
    assert answers(loader) == [("ours", answer) for answer in expected]
    for method in METHODS:
        assert type(vars(loader)[method]) is type(vars(host.Loader)[method])
    assert {status.text for status in installation.verify()} == {"installed"}
    installation.uninstall()
    assert vars(loader) == before
    assert answers(loader) == expected


def test_methods_are_compared_without_self(host: Any) -> None:
    target = f"{MODULE}:Loader.load"
    fits = seam("a", target, replace=lambda _: lambda own, model, *, lowvram=0: 0)
    no_self = seam("b", target, replace=lambda _: lambda *, model, lowvram=0: 0)
    shifted = seam("c", target, replace=lambda _: lambda model, *, lowvram=0: 0)
    rows = Installation([no_self, shifted, fits]).install()
    assert "does not accept self" in rows[0].detail
    assert "does not accept 'model'" in rows[1].detail
    assert rows[2].state is SeamState.INSTALLED
    renamed = seam("d", f"{MODULE}:Loader.count", replace=lambda _: lambda first=0: 0)
    (row,) = Installation([renamed]).install()
    assert "argument 1 is 'first' but the host's is 'start'" in row.detail


def test_a_class_inside_a_class_can_be_a_target(host: Any) -> None:
    host.Loader.Inner = host.QuickLoader
    target = f"{MODULE}:Loader.Inner.load"
    assert Installation([seam(target=target)]).install()[0].text == "installed"


@pytest.mark.parametrize("target", ["builtins:str.join", "toy_stubborn:Stubborn.load"])
def test_an_owner_that_takes_no_assignment_is_an_unsupported_host(host: Any, target: str) -> None:
    class Refuses(type):
        def __setattr__(cls, name: str, value: object) -> None:
            """Ignore it."""

    add_module("toy_stubborn", Stubborn=Refuses("Stubborn", (), {"load": lambda self: 1}))
    (status,) = Installation([seam(target=target)]).install()
    assert status.state is SeamState.UNSUPPORTED
    assert "assigned" in status.detail


def test_a_module_that_fails_while_it_is_imported_is_an_unsupported_host(
    host: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_broken.py").write_text("raise OSError('libze_loader.so')")
    monkeypatch.syspath_prepend(tmp_path)
    (status,) = Installation([seam(target="toy_broken:f")]).install()
    assert status.text == (
        "unsupported host (toy_broken cannot be imported: OSError: libze_loader.so)"
    )


def test_a_disabled_or_unneeded_seam_does_not_import_its_module(
    host: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_heavy.py").write_text("def f(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    seams = [seam("a", "toy_heavy:f"), seam("b", "toy_heavy:f", not_needed=lambda: "no card")]
    Installation(seams).install(disabled=["a"])
    assert "toy_heavy" not in sys.modules


COPIES = ("toy_attention:memory", "toy_other:memory", "toy_absent:memory", "toy_attention:absent")


def test_copies_of_the_original_are_replaced_and_restored(host: Any) -> None:
    original = host.free_memory
    attention = add_module("toy_attention", memory=original)
    other = add_module("toy_other", memory=ours(original))
    before = dict(vars(other))
    installation = Installation([seam(also=COPIES)])
    assert installation.install()[0].text == "installed"
    assert attention.memory is host.free_memory
    assert "toy_absent" not in sys.modules
    installation.uninstall()
    assert attention.memory is host.free_memory is original
    assert vars(other) == before


def test_a_pattern_finds_copies_in_all_loaded_modules_of_such_names(host: Any) -> None:
    original = host.free_memory
    held = [add_module(f"toy_host.{name}", memory=original) for name in ("flux", "ldm.wan")]
    sys.modules["toy_host.alias"] = held[0]
    sys.modules["toy_host.odd"] = {"memory": original}  # type: ignore[assignment]
    others = [add_module("toy_pack", memory=original), add_module("toy_host.x", memory=ours)]
    before = [dict(vars(module)) for module in others]
    loaded = set(sys.modules)
    installation = Installation([seam(also=("toy_host.*:memory", "toy_host.flux:memory"))])
    assert installation.install()[0].text == "installed"
    assert all(module.memory is host.free_memory for module in held)
    assert installation.uninstall()[0].text == "removed"
    assert all(module.memory is original for module in held)
    assert [dict(vars(module)) for module in others] == before
    assert set(sys.modules) == loaded


def test_a_pattern_that_also_names_the_target_replaces_it_once(host: Any) -> None:
    original = host.free_memory
    installation = Installation([seam(also=("toy_host.*:free_memory",))])
    installation.install()
    assert host.free_memory.__wrapped__ is original
    assert installation.uninstall()[0].text == "removed"
    assert host.free_memory is original


def test_a_copy_that_was_overwritten_is_named_and_left_alone(host: Any) -> None:
    attention = add_module("toy_attention", memory=host.free_memory)
    installation = Installation([seam(also=COPIES)])
    installation.install()
    attention.memory = other = theirs(len)
    (status,) = installation.verify()
    assert status.text == "installed (toy_attention:memory overwritten by toy_pack)"
    (status,) = installation.uninstall()
    assert status.text == ("removed (toy_attention:memory left alone: overwritten by toy_pack)")
    assert attention.memory is other


def test_a_copy_that_cannot_be_replaced_takes_the_whole_seam_back(host: Any) -> None:
    class Frozen(type(host)):
        def __setattr__(self, name: str, value: object) -> None:
            raise PermissionError(name)

    original = host.free_memory
    first = add_module("toy_attention", memory=original)
    sys.modules["toy_other"] = frozen = Frozen("toy_other")
    vars(frozen)["memory"] = original
    (status,) = Installation([seam(also=COPIES)]).install()
    assert status.text == (
        "unsupported host (toy_other:memory cannot be assigned: PermissionError: memory)"
    )
    assert host.free_memory is first.memory is frozen.memory is original


def test_a_class_that_a_host_keeps_in_a_table_is_found_and_put_back(host: Any) -> None:
    loader = host.Loader
    host.TABLE = {"Name": loader}
    before = dict(vars(loader))
    installation = Installation([seam(target=f"{MODULE}:TABLE[Name].make", replace=pass_through)])
    assert [status.text for status in installation.install()] == ["installed"]
    assert vars(loader)["make"] is not before["make"]
    assert loader.make("x") == ("ours", ("Loader", "x"))
    assert [status.text for status in installation.uninstall()] == ["removed"]
    assert dict(vars(loader)) == before


@pytest.mark.parametrize("path", ["TABLE[Other].make", "ABSENT[Name].make", "free_memory[a].b"])
def test_a_table_without_the_class_is_an_unsupported_host(host: Any, path: str) -> None:
    host.TABLE = {"Name": host.Loader}
    (status,) = Installation([seam(target=f"{MODULE}:{path}")]).install()
    assert status.state is SeamState.UNSUPPORTED
    assert "this host has no class" in status.text
