"""Workers without any process: what is asked for, what crosses, what names and errors say."""

import multiprocessing
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_ipex.launcher.cli import build_parser
from comfyui_ipex.launcher.environment import RAY
from comfyui_ipex.launcher.hosts import HostTree
from comfyui_ipex.launcher.installation import worker_setting
from comfyui_ipex.xpu_runtime import host, placement, workers
from comfyui_ipex.xpu_runtime.devices import Device, find, is_device_name
from comfyui_ipex.xpu_runtime.worker_plan import WorkerPlan, planned
from comfyui_ipex.xpu_runtime.workers import process, wire
from comfyui_ipex.xpu_runtime.workers.channel import Channel
from comfyui_ipex.xpu_runtime.workers.errors import Failure, NotOnWorkerError, raised_here
from conftest import REPOSITORY

A770 = Device("xpu:0@worker", "Intel(R) Arc(TM) A770 Graphics", "8680a056-0800", 16 << 30)

NVIDIA = Device("cuda:0", "NVIDIA H200", "aaaa", 139 << 30)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> workers.Worker:
    """A worker that has told its devices; no process belongs to it."""
    made = workers.Worker(WorkerPlan("worker", "xpu", ("python",)))
    made.devices = (A770, Device("cpu@worker", "CPU"))
    monkeypatch.setitem(workers._workers, "worker", made)
    return made


@pytest.mark.parametrize(
    ("text", "plans"),
    [
        ("", ()),
        ("xpu:/opt/xpu/bin/python", (("worker", "xpu", ("/opt/xpu/bin/python",)),)),
        (
            "arc=xpu:'/a b/python' -m emulator --, old=cpu:python3",
            (("arc", "xpu", ("/a b/python", "-m", "emulator", "--")), ("old", "cpu", ("python3",))),
        ),
    ],
)
def test_what_the_setting_asks_for(
    text: str, plans: tuple[tuple[str, str, tuple[str]], ...]
) -> None:
    assert planned(text) == tuple(WorkerPlan(*plan) for plan in plans)


@pytest.mark.parametrize("text", ["/opt/python", "xpu", "xpu:", "tpu:python", "A=xpu:python"])
def test_a_setting_that_cannot_be_read_is_an_error_that_shows_how(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("NAME=KIND:INTERPRETER")):
        planned(text)


def test_two_workers_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="two workers are called 'worker'"):
        planned("xpu:a,cpu:b")


@pytest.mark.parametrize("text", ["xpu:0@worker", "cpu@worker", A770.entry, "cpu @worker"])
def test_names_and_entries_of_workers_devices_are_device_names(text: str) -> None:
    assert is_device_name(text)
    assert find(text, [NVIDIA, A770, Device("cpu", "CPU"), Device("cpu@worker", "CPU")]) == (
        text.replace(" @", "@") if text.startswith("cpu") else "xpu:0@worker"
    )


def test_an_entry_names_card_and_worker() -> None:
    assert re.fullmatch(r"xpu:0 Intel Arc A770 16 GB #[0-9a-f]{6} @worker", A770.entry)


def test_the_same_card_of_this_process_or_of_another_worker_is_another_device() -> None:
    own = Device("xpu:0", A770.label, A770.identity, A770.memory)
    attic = Device("xpu:0@attic", A770.label, A770.identity, A770.memory)
    assert find(A770.entry, [own, attic]) is None
    assert find(own.entry, [A770, attic]) is None
    assert find("xpu", [A770]) is None
    assert find(attic.entry, [own, A770, attic]) == "xpu:0@attic"


def test_menus_list_workers_devices_last(started: workers.Worker) -> None:
    assert placement.device_menu()[-2:] == [A770.entry, "cpu @worker"]


def test_a_workers_device_is_chosen_as_its_place(started: workers.Worker) -> None:
    chosen = placement.choose(A770.entry, "the VAE", lambda: torch.device("cpu"))
    assert chosen.location == placement.There(started, torch.device("xpu:0"))
    assert str(chosen.location) == "xpu:0@worker"
    assert chosen.warning == ""


@pytest.mark.parametrize(
    ("request_", "kept", "warns"),
    [
        ("auto", "None", False),
        ("cpu", "cpu", False),
        ("cpu@worker", "cpu", False),
        ("xpu:0@worker", "xpu:0", False),
        ("cuda:7", "None", True),
    ],
)
def test_where_a_worker_keeps_weights(
    started: workers.Worker, request_: str, kept: str, warns: bool
) -> None:
    there = placement.There(started, torch.device("xpu:0"))
    found = placement.choose_offload(request_, "the VAE", there)
    assert (str(found.device), bool(found.warning)) == (kept, warns)


def crossed(value: Any) -> Any:
    """`value` after a way through a channel."""
    one, other = multiprocessing.Pipe()
    sender, receiver = Channel(one), Channel(other)
    sender.post((), wire.packed(value))
    delivery = receiver.take()
    assert delivery is not None
    sender.close()
    receiver.close()
    return wire.unpacked(delivery.message)


DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 5)], ids=str)
def test_tensors_cross_with_dtype_and_bits(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    sent = (torch.randn(shape) * 3).to(dtype)
    found = crossed({"one": [sent]})["one"][0]
    assert found.dtype == sent.dtype
    assert found.shape == sent.shape
    assert found.reshape(-1).view(torch.uint8).equal(sent.reshape(-1).view(torch.uint8))


def test_special_values_and_strides_cross() -> None:
    sent = torch.tensor([[0.0, -0.0, float("nan")], [float("inf"), 1e-45, 2.0]]).t()
    found = crossed(sent)
    assert found.view(torch.int32).equal(sent.contiguous().view(torch.int32))
    found += 1  # its memory is its own


def test_one_tensor_stays_one_and_a_network_keeps_its_parameters() -> None:
    layer = torch.nn.Linear(2, 3)
    message = wire.packed((layer, layer.weight))
    assert len(message.tensors) == 2
    network, weight = wire.unpacked(message)
    assert network.weight is weight
    assert isinstance(weight, torch.nn.Parameter)
    assert network(torch.ones(2)).equal(layer(torch.ones(2)))


def test_what_is_ours_crosses_by_its_place_in_the_extension() -> None:
    message = wire.packed((wire.itself, Failure("error", "ValueError", "text", "")))
    assert wire.ROOT.encode() not in message.pickled
    function, failure = wire.unpacked(message)
    assert function is wire.itself
    assert failure == Failure("error", "ValueError", "text", "")


class Holder:
    """Stands for an object of the host that holds functions which have no name."""

    def __init__(self) -> None:
        self.factor = 3
        self.scaled = lambda value: value * self.factor
        self.ratio = (lambda value: max(0, value - FIVE), 8)


FIVE = 5


def made_class() -> type:
    """A class as the host's text encoders are made: inside a function."""

    class Made(Holder):
        def __init__(self) -> None:
            super().__init__()
            self.name = "made"

        @property
        def doubled(self) -> int:
            return self.factor * 2

        @staticmethod
        def same() -> type:
            return Made

    return Made


def test_functions_and_classes_without_a_name_cross_by_value() -> None:
    held = crossed(Holder())
    assert held.scaled(2) == 6
    held.factor = 4
    assert held.scaled(2) == 8  # the function refers to the copy, not to a copy of its own
    assert held.ratio[0](7) == 2
    made = crossed(made_class()())
    assert (made.name, made.doubled, type(made).same()) == ("made", 6, type(made))
    assert type(made).__name__ == "Made"


def test_what_cannot_cross_is_named() -> None:
    with pytest.raises(TypeError, match=r"cannot cross to another process: .*lock"):
        wire.packed({"lock": threading.Lock()})


def test_what_a_worker_keeps_is_found_by_name() -> None:
    message = wire.packed([wire.Kept("key")])
    assert wire.unpacked(message, {"key": 7}) == [7]


def test_quantised_and_sparse_tensors_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="sparse_coo"):
        wire.packed(torch.eye(2).to_sparse())


def test_memory_that_ran_out_stays_torchs_own_error_and_others_their_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = raised_here(Failure("memory", "RuntimeError", "no memory", "trace"), "worker")
    assert isinstance(error, torch.cuda.OutOfMemoryError)
    error = raised_here(Failure("error", "ValueError", "bad", "trace"), "worker")
    assert type(error) is ValueError
    assert str(error) == "bad (on the worker 'worker')"
    assert "trace" in str(error.__cause__)
    stopped = KeyboardInterrupt()
    monkeypatch.setattr(host, "interruption", lambda: stopped)
    assert raised_here(Failure("interrupt", "RuntimeError", "", ""), "worker") is stopped


def test_what_a_proxy_cannot_do_is_named() -> None:
    text = str(NotOnWorkerError("The VAE", "first_stage_model", "worker"))
    assert "The VAE is placed on the worker 'worker'" in text
    assert "'first_stage_model'" in text


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"python": "3.11.2", "torch": True}, ""),
        ({"python": "3.12.1", "torch": True}, "is Python 3.12.1"),
        ({"python": "3.11.2", "torch": False}, "does not have torch"),
    ],
)
def test_why_an_interpreter_cannot_be_a_workers(found: dict[str, object], why: str) -> None:
    reason = process.unfit(found, "3.11.7")
    assert why in reason
    assert bool(why) == bool(reason)


def test_an_interpreter_is_asked_before_it_is_started() -> None:
    with pytest.raises(workers.WorkerError, match="is no Python that answers"):
        process.check_interpreter(WorkerPlan("worker", "cpu", ("/nowhere/python",)))
    bare = WorkerPlan("worker", "cpu", (sys.executable, "-I", "-S"))
    with pytest.raises(workers.WorkerError, match="does not have torch"):
        process.check_interpreter(bare)


def test_workers_need_no_package_and_a_cluster_asks_for_one_ray() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'cluster = ["{RAY}"]' in project
    assert "workers = [" not in project
    assert RAY.partition("=")[0] not in (REPOSITORY / "requirements.txt").read_text()


def test_the_launcher_knows_worker_and_leaves_a_named_interpreter_alone() -> None:
    assert build_parser().parse_args(["--worker", "xpu"]).worker == "xpu"
    tree = HostTree(Path("/nowhere"), "0.3.47", "0.3.47", "", False)
    assert worker_setting(tree, "", {}) == ""
    assert worker_setting(tree, "", {"COMFYUI_IPEX_WORKERS": "xpu:python"}) == "xpu:python"
