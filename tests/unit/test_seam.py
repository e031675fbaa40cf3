"""Seams: what is installed, what is reported, what raises."""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from comfyui_ipex.xpu_runtime.seam import Installation, SeamError, SeamState
from toy_hosts import MODULE, add_module, made_by, ours, seam, toy_host


@pytest.fixture
def host() -> Iterator[Any]:
    with toy_host() as module:
        yield module


def fails(*_: object) -> Any:
    raise OSError("no\nluck")


def rows(installation: Installation) -> list[str]:
    return [status.text for status in installation.statuses()]


def test_a_seam_replaces_the_function_and_delegates_to_the_original(host: Any) -> None:
    (status,) = Installation([seam()]).install()
    assert host.free_memory("xpu:0", torch_free_too=True) == ("ours", ("host", "xpu:0", True))
    assert (status.seam, status.target) == ("free-memory", f"{MODULE}:free_memory")
    assert (status.state, status.detail) == (SeamState.INSTALLED, "")
    assert status.reason == "models do not fit"


def test_the_replacement_keeps_the_identity_of_the_original_and_adds_one_attribute(
    host: Any,
) -> None:
    original = host.free_memory
    original.known_to_others = 1
    Installation([seam()]).install()
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
        assert getattr(host.free_memory, attribute) == getattr(original, attribute)
    assert host.free_memory.__wrapped__ is original
    added = vars(host.free_memory).keys() - vars(original).keys()
    assert len(added - {"__wrapped__"}) == 1
    assert vars(original) == {"known_to_others": 1}


def test_a_call_costs_one_more_python_call(host: Any) -> None:
    def calls() -> int:
        entered: list[str] = []
        sys.setprofile(lambda frame, event, _: entered.append(event))
        try:
            host.free_memory()
        finally:
            sys.setprofile(None)
        return entered.count("call")

    bare = calls()
    Installation([seam()]).install()
    assert calls() == bare + 1


def test_what_is_not_needed_or_disabled_changes_nothing(host: Any) -> None:
    before = dict(vars(host))
    installation = Installation(
        [
            seam("a", not_needed=lambda: "this host is patched"),
            seam("b", not_needed=fails, replace=fails),
        ]
    )
    installation.install(disabled=["b"])
    assert rows(installation) == [
        "not needed (this host is patched)",
        "disabled (by your settings)",
    ]
    assert vars(host) == before


def requires_more(original: Any) -> Any:
    return lambda dev=None, *, more: original(dev)


def lacks_a_keyword(original: Any) -> Any:
    return lambda dev=None: original(dev)


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"target": "toy_absent:f"}, "toy_absent cannot be imported: ModuleNotFoundError"),
        ({"target": f"{MODULE}:absent"}, f"{MODULE} has no absent"),
        ({"target": f"{MODULE}:Absent.load"}, "this host has no class Absent"),
        ({"target": f"{MODULE}:Loader.absent"}, "Loader has no absent"),
        ({"target": f"{MODULE}:free_memory.inner"}, "this host has no class free_memory"),
        ({"target": f"{MODULE}:NUMBER"}, "is a int, not a function"),
        ({"target": f"{MODULE}:Loader"}, "is a type, not a function"),
        ({"target": f"{MODULE}:Loader.size"}, "is a property, not a function"),
        ({"target": "toy_odd:f"}, "toy_odd is a dict, not a module"),
        ({"target": MODULE}, "is not written as module:attribute"),
        ({"target": ":f"}, "is not written as module:attribute"),
        ({"not_needed": fails}, "whether it is needed could not be found out: OSError: no luck"),
        ({"replace": fails}, "its replacement could not be made: OSError: no luck"),
        ({"replace": lambda original: None}, "its replacement is a NoneType, not a function"),
        ({"replace": lambda original: original}, "its replacement is not a new function"),
        ({"replace": functools.partial}, "its replacement is a partial, not a function"),
        ({"replace": lacks_a_keyword}, "does not accept 'torch_free_too'"),
        ({"replace": requires_more}, "does not accept 'torch_free_too'"),
    ],
)
def test_a_failing_seam_is_a_row_and_the_others_are_installed(
    host: Any, fields: dict[str, Any], detail: str
) -> None:
    sys.modules["toy_odd"] = {"f": len}  # type: ignore[assignment]
    before = {**vars(host), "Loader": dict(vars(host.Loader))}
    good = seam("good", f"{MODULE}:QuickLoader.load")
    installation = Installation([seam("bad", **fields), good])
    bad, other = installation.install()
    assert bad.state is SeamState.UNSUPPORTED
    assert detail in bad.detail
    assert "\n" not in bad.text
    assert other.state is SeamState.INSTALLED
    assert {**vars(host), "Loader": dict(vars(host.Loader))} == before
    with pytest.raises(SeamError, match=r"'bad' is required.*Without it: models do not fit.*Take"):
        Installation([seam("bad", **fields)]).install(required=["bad"])


def test_a_required_seam_that_fails_is_an_error_after_the_others_had_their_turn(host: Any) -> None:
    installation = Installation([seam("bad", replace=fails), seam("good")])
    with pytest.raises(SeamError, match="OSError: no luck"):
        installation.install(required=["bad"])
    assert rows(installation)[1] == "installed"


def test_a_required_seam_that_is_not_needed_is_no_error(host: Any) -> None:
    installation = Installation([seam(not_needed=lambda: "no Intel card")])
    (status,) = installation.install(required=["free-memory"])
    assert status.state is SeamState.NOT_NEEDED


@pytest.mark.parametrize("setting", ["disabled", "required"])
def test_an_unknown_name_is_an_error_that_lists_the_known(host: Any, setting: str) -> None:
    original = host.free_memory
    installation = Installation([seam(), seam("attention")])
    with pytest.raises(SeamError, match=r"'fre-memory'.*names are: attention, free-memory"):
        installation.install(**{setting: ["fre-memory"]})
    assert host.free_memory is original
    assert installation.statuses() == []


def test_contradicting_settings_and_two_seams_of_one_name_are_errors() -> None:
    with pytest.raises(SeamError, match="both disabled and required"):
        Installation([seam()]).install(disabled=["free-memory"], required=["free-memory"])
    with pytest.raises(SeamError, match="Two seams are called 'free-memory'"):
        Installation([seam(), seam()])


def test_installing_again_changes_nothing(host: Any) -> None:
    installation = Installation([seam()])
    first = installation.install()
    replacement = host.free_memory
    assert installation.install() == first
    assert installation.install(disabled=["free-memory"]) == first
    assert host.free_memory is replacement


@pytest.mark.parametrize("target", ["free_memory", "Loader.count", "Loader.make"])
def test_a_second_installation_finds_what_the_first_did_and_leaves_it(
    host: Any, target: str
) -> None:
    first, second = (Installation([seam(target=f"{MODULE}:{target}")]) for _ in range(2))
    first.install()
    before = {**vars(host), "Loader": dict(vars(host.Loader))}
    second.install()
    second.uninstall()
    assert rows(second) == ["installed (by an earlier installation)"]
    assert {**vars(host), "Loader": dict(vars(host.Loader))} == before
    first.uninstall()
    assert second.verify()[0].state is SeamState.OVERWRITTEN
    assert second.install()[0].text == "installed"


def test_an_earlier_installation_that_is_gone_is_forgotten(host: Any) -> None:
    first, second = Installation([seam()]), Installation([seam()])
    first.install()
    second.install()
    first.uninstall()
    second.install(disabled=["free-memory"])
    assert second.verify()[0].state is SeamState.DISABLED


def test_a_factory_that_gives_one_function_twice_is_refused(host: Any) -> None:
    shared = ours(host.free_memory)
    installation = Installation([seam("a", replace=lambda _: shared), seam("b")])
    installation.install()
    twice = Installation([seam("c", replace=lambda _: shared)])
    assert "its replacement is not a new function" in twice.install()[0].detail
    assert host.free_memory() == ("ours", ("ours", ("host", None, False)))


def test_another_packs_copy_of_our_mark_is_not_taken_for_ours(host: Any) -> None:
    original = host.free_memory
    first = Installation([seam()])
    first.install()
    theirs = functools.wraps(host.free_memory)(made_by("toy_pack", ours(original)))
    del theirs.__wrapped__
    host.free_memory = theirs
    assert first.verify()[0].state is SeamState.OVERWRITTEN
    assert Installation([seam()]).install()[0].text == "installed"


def test_two_seams_on_one_function_stack_and_come_off_in_reverse(host: Any) -> None:
    original = host.free_memory
    installation = Installation([seam("a"), seam("b")])
    installation.install()
    assert host.free_memory() == ("ours", ("ours", ("host", None, False)))
    installation.verify()
    assert rows(installation) == ["installed (wrapped by the seam 'b')", "installed"]
    installation.uninstall()
    assert rows(installation) == ["removed", "removed"]
    assert host.free_memory is original


def wrapped_by_a_pack(function: Callable[..., Any]) -> Any:
    """What a pack that came before us may have put there."""

    @functools.wraps(function)
    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ("theirs", function(*args, **kwargs))

    return theirs


def test_a_pack_that_came_first_is_wrapped_and_asked(host: Any) -> None:
    """Its (*args, **kwargs) says nothing: what callers may pass is what the host accepts."""
    theirs = host.free_memory = wrapped_by_a_pack(host.free_memory)
    installation = Installation([seam("narrow", replace=lacks_a_keyword), seam()])
    installation.install()
    assert "does not accept 'torch_free_too'" in rows(installation)[0]
    assert host.free_memory(1) == ("ours", ("theirs", ("host", 1, False)))
    installation.uninstall()
    assert host.free_memory is theirs


def test_a_builtin_without_a_signature_needs_a_replacement_that_accepts_everything(
    host: Any,
) -> None:
    host.largest = max
    narrow = seam("narrow", f"{MODULE}:largest", replace=ours)
    wide = seam("wide", f"{MODULE}:largest")
    installation = Installation([narrow, wide])
    installation.install()
    assert rows(installation)[0].endswith("the replacement does not accept *args)")
    assert host.largest(1, 2) == ("ours", 2)


def test_async_and_plain_are_not_exchanged(host: Any) -> None:
    async def statistics(request: object) -> None: ...

    add_module("toy_server", statistics=statistics)
    (status,) = Installation([seam(target="toy_server:statistics")]).install()
    assert "async" in status.text
    assert status.state is SeamState.UNSUPPORTED
