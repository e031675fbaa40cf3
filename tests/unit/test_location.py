"""A location: the same function and handles give the same answer, here and in a worker."""

import gc
import weakref
from typing import Any

import pytest
import torch
from comfyui_ipex.xpu_runtime.placement import Here, Location, There
from comfyui_ipex.xpu_runtime.placement.remote.handles import HandleRegistry
from comfyui_ipex.xpu_runtime.workers import Resident
from in_process_worker import InProcessWorker

CPU = torch.device("cpu")


@pytest.fixture(params=["here", "there"])
def location(request: pytest.FixtureRequest) -> Location:
    """One of each kind."""
    return Here(CPU) if request.param == "here" else There(InProcessWorker(), CPU)


def make_layer(width: int) -> torch.nn.Linear:
    """A network whose weights are known."""
    layer = torch.nn.Linear(width, 1)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer


def make_pair(layer: torch.nn.Linear, factor: float) -> tuple[torch.nn.Linear, float]:
    """What is made of another handle."""
    return layer, factor


def apply_layer(layer: torch.nn.Linear, pixels: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """Sums, times `factor`."""
    return layer(pixels).detach() * factor


def apply_pair(pair: tuple[torch.nn.Linear, float], pixels: torch.Tensor) -> torch.Tensor:
    """The same."""
    return apply_layer(pair[0], pixels, pair[1])


def bias_of(layer: torch.nn.Linear) -> float:
    """A number that `raise_bias` changes."""
    return float(layer.bias.detach())


def raise_bias(layer: torch.nn.Linear) -> None:
    """A change to what is held."""
    layer.bias.data += 1


def fail(layer: torch.nn.Linear) -> None:
    """An error of the function's own."""
    raise ValueError(f"{layer.in_features} is not enough")


def test_a_function_answers_the_same_at_either_location(location: Location) -> None:
    pixels = torch.arange(6.0).reshape(2, 3)
    layer = location.hold(make_layer, 3)
    wanted = [[3.0], [12.0]]
    assert location.call(apply_layer, layer, pixels).tolist() == wanted
    assert location.call(apply_layer, layer=layer, pixels=pixels, factor=2.0).tolist() == [
        [6.0],
        [24.0],
    ]
    outcome = location.begin(apply_layer, layer, pixels)
    assert outcome.result().tolist() == wanted
    assert outcome.is_there()
    pair = location.hold(make_pair, layer, 0.5)
    assert location.call(apply_pair, pair, pixels).tolist() == [[1.5], [6.0]]


def test_what_is_held_is_made_once_and_keeps_its_changes(location: Location) -> None:
    layer, other = location.hold(make_layer, 3), location.hold(make_layer, 3)
    pair = location.hold(make_pair, layer, 1.0)
    location.call(raise_bias, layer)
    assert location.call(bias_of, layer) == 1
    assert location.call(bias_of, other) == 0
    assert location.call(apply_pair, pair, torch.zeros(1, 3)).tolist() == [[1.0]]


def test_the_functions_error_is_raised_at_either_location(location: Location) -> None:
    layer = location.hold(make_layer, 3)
    with pytest.raises(ValueError, match="3 is not enough"):
        location.call(fail, layer)


def test_a_handle_that_is_held_here_is_released_with_it() -> None:
    here = Here(CPU)
    handle = here.hold(make_layer, 3)
    layer = weakref.ref(here.expose(handle, lambda _: None))
    here.call(bias_of, handle)
    here.begin(bias_of, handle).result()
    gc.collect()
    assert layer() is not None
    del handle
    gc.collect()
    assert layer() is None


def test_other_nodes_are_given_the_object_here_and_a_proxy_for_what_a_worker_holds() -> None:
    def proxy(handle: Any) -> tuple[str, Any]:
        return "proxy", handle

    here, there = Here(CPU), There(InProcessWorker(), CPU)
    layer = here.expose(here.hold(make_layer, 3), proxy)
    assert isinstance(layer, torch.nn.Linear)
    handle = there.hold(make_layer, 3)
    assert there.expose(handle, proxy) == ("proxy", handle)


def test_two_processes_work_beside_each_other_and_one_does_not_beside_itself() -> None:
    worker = InProcessWorker()
    here, card = Here(CPU), Here(torch.device("xpu:0"))
    there, same = There(worker, CPU), There(worker, torch.device("xpu:0"))
    other = There(InProcessWorker("other"), CPU)
    beside = {(one, two) for one in (here, there) for two in (here, card, there, same, other)
              if one.runs_beside(two)}  # fmt: skip
    assert beside == {(here, there), (here, same), (here, other),
                      (there, here), (there, card), (there, other)}  # fmt: skip
    assert [one.process for one in (here, there)] == ["in this process", "on the worker 'worker'"]
    assert [str(one) for one in (card, same)] == ["xpu:0", "xpu:0@worker"]


def test_weights_wait_on_a_device_of_the_process_that_uses_them() -> None:
    worker, card = InProcessWorker(), torch.device("xpu:0")
    here, there, other = Here(card), There(worker, card), There(InProcessWorker("other"), card)
    assert here.local_device(Here(CPU)) == CPU
    assert here.local_device(there) is None
    assert there.local_device(There(worker, card)) == card
    assert there.local_device(here) is None
    assert there.local_device(other) is None
    # The computer's memory is every process's.
    assert there.local_device(Here(CPU)) == CPU
    assert here.local_device(There(worker, CPU)) == CPU


def test_what_is_made_of_the_same_weights_is_held_once_while_somebody_needs_it() -> None:
    there = There(InProcessWorker(), CPU)
    registry, made = HandleRegistry(), []

    def make() -> Resident:
        made.append(1)
        return there.hold(make_layer, 3)

    network, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    first = registry.share(network, "xpu:0", make)
    assert registry.share(network, "xpu:0", make) is first
    assert registry.share(network, "cpu", make) is not first
    assert registry.share(other, "xpu:0", make) is not first
    assert len(made) == 3
    del first
    registry.share(network, "xpu:0", make)
    assert len(made) == 4


def test_a_handle_that_is_kept_goes_with_its_network() -> None:
    there, registry = There(InProcessWorker(), CPU), HandleRegistry()
    network = torch.nn.Linear(1, 1)
    kept = weakref.ref(registry.keep(network, "worker", lambda: there.hold(make_layer, 3)))
    gc.collect()
    assert kept() is not None
    del network
    gc.collect()
    assert kept() is None
