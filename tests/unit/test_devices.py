"""Names and priority of devices: forced > CUDA > XPU > CPU."""

import re

import pytest
from comfyui_ipex.xpu_runtime.devices import (
    Device,
    DeviceAbsentError,
    choose,
    find,
    is_device_name,
)

BOTH = ["cuda:0", "cuda:1", "xpu:0", "xpu:1", "cpu"]


def cards(names: list[str]) -> list[Device]:
    """Devices of these names, each with an identity of its own."""
    return [Device(name, "a card", f"uuid-of-{name.replace(':', '-')}") for name in names]


@pytest.mark.parametrize(
    ("request_", "available", "chosen"),
    [
        ("auto", BOTH, "cuda:0"),
        ("auto", ["xpu:0", "cpu"], "xpu:0"),
        ("auto", ["cpu"], "cpu"),
        ("xpu", BOTH, "xpu:0"),
        ("xpu:1", BOTH, "xpu:1"),
        ("cuda", BOTH, "cuda:0"),
        ("cuda:1", BOTH, "cuda:1"),
        ("cpu", BOTH, "cpu"),
    ],
)
def test_priority(request_: str, available: list[str], chosen: str) -> None:
    assert choose(request_, cards(available)) == chosen


@pytest.mark.parametrize("request_", ["xpu", "xpu:2", "cuda:7"])
def test_a_forced_device_that_is_absent_is_an_error_that_lists_what_is_there(request_: str) -> None:
    with pytest.raises(DeviceAbsentError, match="devices: xpu:0, cpu"):
        choose("cuda:7" if request_.startswith("cuda") else "xpu:5", cards(["xpu:0", "cpu"]))
    assert find(request_, cards(["cpu"])) is None


@pytest.mark.parametrize(
    "text", ["auto", "cpu", "cuda", "xpu", "xpu:0", "cuda:15", "xpu@8680a056-0800"]
)
def test_device_names(text: str) -> None:
    assert is_device_name(text)


@pytest.mark.parametrize(
    "text", ["", "gpu", "xpu:", "xpu:-1", "xpu:01", "cpu:0", "cpu@8680", "xpu@", "xpu:1 ", None, 3]
)
def test_what_is_no_device_name(text: object) -> None:
    assert not is_device_name(text)


@pytest.mark.parametrize("text", ["auto", "gpu"])
def test_only_a_device_can_be_found(text: str) -> None:
    with pytest.raises(ValueError, match="names no device"):
        find(text, cards(BOTH))


def test_a_card_keeps_its_stable_name_when_cards_are_counted_in_another_order() -> None:
    before = [Device("xpu:0", "A770", "aaaa"), Device("xpu:1", "B580", "bbbb")]
    after = [Device("xpu:0", "B580", "bbbb"), Device("xpu:1", "A770", "aaaa")]
    remembered = before[1].stable_name
    assert is_device_name(remembered)
    assert choose(remembered, before) == "xpu:1"
    assert choose(remembered, after) == "xpu:0"


def test_without_an_identity_the_number_has_to_do() -> None:
    assert Device("xpu:1", "a card").stable_name == "xpu:1"


A770 = Device("xpu:0", "Intel(R) Arc(TM) A770 Graphics", "8680a056-0800", 16225243136)
B580 = Device("xpu:1", "Intel(R) Arc(TM) B580 Graphics", "86800be2-0000", 12450000000)


def renumbered(device: Device, name: str) -> Device:
    """The same card under another number."""
    return Device(name, device.label, device.identity, device.memory)


def without_identity(device: Device, name: str) -> Device:
    """As an older torch shows it."""
    return Device(name, device.label, None, device.memory)


def test_an_entry_is_readable_and_ends_with_the_cards_mark() -> None:
    assert re.fullmatch(r"xpu:0 Intel Arc A770 16 GB #[0-9a-f]{6}", A770.entry)
    assert without_identity(A770, "xpu:1").entry == "xpu:1 Intel Arc A770 16 GB"
    assert Device("cuda:0", "NVIDIA H200", None, 150754820096).entry == "cuda:0 NVIDIA H200 141 GB"
    assert Device("xpu:0", " #(R) ").entry == "xpu:0 card"
    assert Device("cpu", "CPU").entry == "cpu"


@pytest.mark.parametrize("device", [A770, B580, without_identity(A770, "xpu:3")])
def test_an_entry_is_a_device_name_and_means_its_card(device: Device) -> None:
    assert is_device_name(device.entry)
    assert find(device.entry, [A770, B580, device]) == device.name


def test_an_entry_means_the_same_card_when_cards_are_counted_in_another_order() -> None:
    now = [renumbered(B580, "xpu:0"), renumbered(A770, "xpu:1")]
    assert find(A770.entry, now) == "xpu:1"
    assert find(B580.entry, now) == "xpu:0"


def test_an_entry_of_another_machine_means_no_card_here_even_of_the_same_make() -> None:
    other = Device("xpu:0", A770.label, "8680a056-9999", A770.memory)
    assert find(other.entry, [A770, B580]) is None
    assert find(A770.entry.replace("xpu", "cuda"), [A770]) is None


def test_without_a_mark_make_and_memory_and_number_have_to_do() -> None:
    entry = without_identity(A770, "xpu:1").entry
    assert (
        find(entry, [without_identity(A770, "xpu:0"), without_identity(B580, "xpu:1")]) == "xpu:0"
    )
    equal = [without_identity(A770, f"xpu:{number}") for number in (0, 1)]
    assert find(entry, equal) == "xpu:1"
    assert find(entry.replace("xpu:1", "xpu:2"), equal) is None
    assert find(entry, [A770]) == "xpu:0", "torch was updated and tells an identity now"
