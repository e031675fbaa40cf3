"""What a Select Device widget means in this process."""

import logging
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime import devices, host, placement
from comfyui_ipex.xpu_runtime.placement.local import CalledFromAnywhere, move_tensors
from comfyui_ipex.xpu_runtime.placement.patchers import replace_halves

PRESENT = (devices.Device("xpu:0", "Intel Arc"), devices.Device("cpu", "CPU"))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one Intel card, on which the host runs."""
    monkeypatch.setattr(devices, "discover", lambda: PRESENT)
    monkeypatch.setattr(host, "primary_device", lambda: torch.device("xpu:0"))
    monkeypatch.setattr(host, "note_dtypes", lambda network: None)


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


def test_the_offload_device_is_the_components_own_unless_another_is_named() -> None:
    here = placement.Here(torch.device("cpu"))
    assert placement.choose_offload("auto", "the VAE", here) == placement.Offload(None)
    assert placement.choose_offload("xpu", "the VAE", here).device == torch.device("xpu:0")
    absent = placement.choose_offload("xpu:7", "the VAE", here)
    assert absent.device is None
    assert "The offload device of the VAE is set to 'xpu:7'" in absent.warning


class Doubling(torch.nn.Module):
    """Answers as ControlNets do: lists in a mapping, one tensor in several places."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 2.0, device=device))

    def forward(self, x: torch.Tensor, hint: list[torch.Tensor], name: str) -> dict[str, Any]:
        """`hint` must be here, and `name` as it was."""
        assert (x.device, hint[0].device, name) == (self.weight.device, x.device, "n")
        result = x * self.weight
        return {"middle": [result], "output": [result, None]}


def test_a_network_that_is_called_from_its_own_device_is_called_as_it_is() -> None:
    network = CalledFromAnywhere(Doubling("meta"), torch.device("meta"))
    there = torch.empty(2, device="meta")
    answer = network(x=there, hint=[there], name="n")
    assert answer["middle"][0].device.type == "meta"
    assert network.weight.device.type == "meta", "attributes are the network's own"
    here = CalledFromAnywhere(Doubling("cpu"), torch.device("cpu"))
    given = torch.ones(2)
    assert torch.equal(here(x=given, hint=[given], name="n")["middle"][0], given * 2)


def test_what_was_one_tensor_stays_one_on_the_other_device() -> None:
    """ControlNets' answers are scaled in place, once a tensor."""
    shared = torch.ones(2)
    moved = move_tensors(
        {"middle": [shared], "output": (shared, None, 3)}, torch.device("meta"), {}
    )
    assert moved["middle"][0] is moved["output"][0]
    assert moved["middle"][0].device.type == "meta"
    assert moved["output"][1:] == (None, 3)


def test_a_copy_of_a_network_has_the_dtype_and_none_of_the_hosts_notes() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).half()
    network.model_lowvram = True
    network.device = torch.device("meta")
    twin = placement.copied(network, torch.float32)
    assert {value.dtype for value in twin.parameters()} == {torch.float32}
    assert twin[1].num_batches_tracked.dtype == torch.int64
    assert not hasattr(twin, "model_lowvram")
    assert not hasattr(twin, "device")
    assert next(network.parameters()).dtype == torch.float16
    assert torch.equal(twin[0].weight, network[0].weight.float())


@pytest.mark.parametrize("inside", [False, True])
def test_weights_that_were_moved_outside_of_inference_mode_can_be_used(inside: bool) -> None:
    with torch.inference_mode():
        network = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4, bias=False))
        network.requires_grad_(False)
        network[1].weight = network[0].weight
        tokens = torch.tensor([1, 3])
        expected = network.to(torch.float64)(tokens)
    network.to(torch.float32)  # as "Unload models" does, after the prompt
    with torch.inference_mode(), pytest.raises(RuntimeError, match="version counter"):
        network(tokens)
    with torch.inference_mode(inside):
        replace_halves(network)
    assert network[0].weight is network[1].weight
    assert not network[0].weight.requires_grad
    with torch.inference_mode():
        assert torch.allclose(network(tokens).double(), expected)
