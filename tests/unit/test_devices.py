"""Names and priority of devices: forced > CUDA > XPU > CPU."""

import pytest
from comfyui_ipex.xpu_runtime.devices import DeviceAbsentError, choose, find, is_device_name

BOTH = ["cuda:0", "cuda:1", "xpu:0", "xpu:1", "cpu"]


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
    assert choose(request_, available) == chosen


@pytest.mark.parametrize("request_", ["xpu", "xpu:2", "cuda:7"])
def test_a_forced_device_that_is_absent_is_an_error_that_lists_what_is_there(request_: str) -> None:
    with pytest.raises(DeviceAbsentError, match="devices: xpu:0, cpu"):
        choose("cuda:7" if request_.startswith("cuda") else "xpu:5", ["xpu:0", "cpu"])
    assert find(request_, ["cpu"]) is None


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda", "xpu", "xpu:0", "cuda:15"])
def test_device_names(text: str) -> None:
    assert is_device_name(text)


@pytest.mark.parametrize(
    "text", ["", "gpu", "xpu:", "xpu:-1", "xpu:01", "cpu:0", "xpu:1 ", None, 3]
)
def test_what_is_no_device_name(text: object) -> None:
    assert not is_device_name(text)


@pytest.mark.parametrize("text", ["auto", "gpu"])
def test_only_a_device_can_be_found(text: str) -> None:
    with pytest.raises(ValueError, match="names no device"):
        find(text, BOTH)
