"""What a Select Device widget means in this process."""

import logging

import pytest
import torch
from comfyui_ipex.xpu_runtime import devices, host, placement

PRESENT = (devices.Device("xpu:0", "Intel Arc"), devices.Device("cpu", "CPU"))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one Intel card, on which the host runs."""
    monkeypatch.setattr(devices, "discover", lambda: PRESENT)
    monkeypatch.setattr(host, "primary_device", lambda: torch.device("xpu:0"))


@pytest.mark.parametrize(
    ("request_", "name"), [("auto", "xpu:0"), ("cpu", "cpu"), ("xpu", "xpu:0")]
)
def test_a_device_that_is_here_is_taken(
    request_: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert placement.device_for(request_, "the model") == torch.device(name)
    assert not caplog.records


def test_an_absent_device_means_auto_and_a_warning_that_names_both(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert placement.device_for("cuda:1", "the model") == torch.device("xpu:0")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("comfyui-ipex", logging.WARNING)
    assert "the model is set to 'cuda:1'" in record.getMessage()
    assert "xpu:0, cpu" in record.getMessage()
    assert "auto (xpu:0)" in record.getMessage()


def test_nonsense_is_an_error() -> None:
    with pytest.raises(ValueError, match="names no device"):
        placement.device_for("gpu", "the model")
