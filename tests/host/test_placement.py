"""Each component on a card of its own, in the host's modes of offloading, against the CPU.

All on the emulated device of tests/xpu_emulator, never on Intel hardware.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import servers
from comfyui_ipex.launcher.client import WorkflowError
from servers import ComfyServer, Configuration, Run, ServerPool

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

CARDS = ("--device", "a770", "--count", "2", "--async-copies")

# As in test_offloading: too little memory for the larger model as a whole.
SMALL_CARDS = (*CARDS, "--memory", "2GiB")


@dataclass(frozen=True)
class Mode:
    """One way in which the host keeps weights off the cards."""

    arguments: tuple[str, ...]
    emulator: tuple[str, ...] = CARDS
    log: str = ""
    """What the host's log must say for the mode to have been in force."""
    small: bool = True
    """Whether the smaller model will do."""


MODES = {
    "normal": Mode((), servers.TWO_CARDS),  # the server of test_workflows
    "lowvram": Mode(("--lowvram", "--reserve-vram", "1.1"), SMALL_CARDS, "loaded partially", False),
    "novram": Mode(("--novram",), log="loaded partially"),
}

COMPONENTS = {"model": "4", "clip": "5", "vae": "6", "controlnet": "8", "upscaler": "10"}
"""The nodes of the workflow `placed` that place them."""

LARGER = {"unet_name": "mini_sd15_larger_unet.safetensors", "weight_dtype": "default"}

PRODUCTS = ("aten::convolution_overrideable", "aten::addmm", "aten::mm", "aten::bmm")


def placed(small: bool = True, **devices: str) -> dict[str, Any]:
    """The workflow with components on these devices; the ControlNet is with the model.

    `small` is the checkpoint's own model, which moves faster than the larger one.
    """
    workflow = servers.workflow("placed", "auto")
    if not small:
        workflow["2"] = {"class_type": "UNETLoader", "inputs": LARGER}
        workflow["3"]["inputs"]["model"] = ["2", 0]
    workflow[COMPONENTS["controlnet"]]["inputs"]["device"] = "with model"
    for component, device in devices.items():
        workflow[COMPONENTS[component]]["inputs"]["device"] = device
    return workflow


def without_placing(workflow: dict[str, Any]) -> dict[str, Any]:
    """The same workflow with each Select Device replaced by what it is given."""
    ours = {key: node for key, node in workflow.items() if "SelectDevice" in node["class_type"]}
    sources = {
        key: next(value for value in node["inputs"].values() if isinstance(value, list))
        for key, node in ours.items()
    }
    kept = {key: node for key, node in workflow.items() if key not in ours}
    for node in kept.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in sources:
                node["inputs"][name] = sources[value[0]]
    return kept


def distance(run: Run, expected: np.ndarray) -> int:
    """The largest difference to `expected`, in LSB."""
    return int(np.abs(run.images[0].astype(int) - expected).max())


@pytest.fixture(scope="module")
def on_the_cpu(pool: ServerPool, host_version: str) -> dict[bool, np.ndarray]:
    """The pictures of the workflow on the CPU, as int, with the smaller model and the larger."""
    server = pool.get(Configuration(host_version))
    runs = {small: server.run(without_placing(placed(small))) for small in (True, False)}
    return {small: run.images[0].astype(int) for small, run in runs.items()}


def server_in(pool: ServerPool, version: str, mode: str) -> ComfyServer:
    """A server with two cards."""
    chosen = MODES[mode]
    arguments = ("--force-fp32", *chosen.arguments)
    return pool.get(Configuration(version, arguments, emulator=chosen.emulator))


def products(server: ComfyServer) -> list[int]:
    """How many convolutions and matrix products each card has computed."""
    return [
        sum(calls for name, calls in card["op_calls"].items() if name.split(".")[0] in PRODUCTS)
        for card in server.emulated_cards()
    ]


def crossings(server: ComfyServer) -> list[int]:
    """How many copies between the cards each card has seen."""
    return [card["counters"]["peer"]["count"] for card in server.emulated_cards()]


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_component_runs_on_its_device_and_the_picture_is_the_cpus(
    pool: ServerPool,
    host_version: str,
    on_the_cpu: dict[bool, np.ndarray],
    mode: str,
    component: str,
) -> None:
    """On the second card, and on the CPU, with what was cached and loaded before."""
    server, small = server_in(pool, host_version, mode), MODES[mode].small
    before, crossed = products(server), crossings(server)
    run = server.run(placed(small, **{component: "xpu:1"}))
    assert run.said(COMPONENTS[component]) == "Runs on xpu:1."
    assert distance(run, on_the_cpu[small]) <= 1
    assert products(server)[1] > before[1], "nothing was computed on the second card"
    if component != "controlnet":  # on a card of its own, its hints and answers cross
        assert crossings(server) == crossed
    if mode == "normal":  # the other modes mean nothing to the CPU
        run = server.run(placed(small, **{component: "cpu"}))
        assert run.said(COMPONENTS[component]) == "Runs on cpu."
        assert distance(run, on_the_cpu[small]) <= 1
    assert MODES[mode].log in server.log


@pytest.mark.parametrize("mode", MODES)
def test_without_the_nodes_components_run_where_comfyui_puts_them(
    pool: ServerPool, host_version: str, on_the_cpu: dict[bool, np.ndarray], mode: str
) -> None:
    """Right after runs on the other card: what is left of those may not decide."""
    server, small = server_in(pool, host_version, mode), MODES[mode].small
    others = [name for name in COMPONENTS if name != "controlnet"]
    run = server.run(placed(small, **dict.fromkeys(others, "xpu:1")))
    assert distance(run, on_the_cpu[small]) <= 1
    before, crossed = products(server), crossings(server)
    run = server.run(without_placing(placed(small)))
    assert distance(run, on_the_cpu[small]) <= 1
    assert products(server)[1] == before[1]
    assert crossings(server) == crossed


def test_placed_components_come_from_the_cache_after_a_prompt_that_failed(
    pool: ServerPool, host_version: str, on_the_cpu: dict[bool, np.ndarray]
) -> None:
    """It breaks on the second card. What ComfyUI places itself stays on the first one."""
    server = server_in(pool, host_version, "normal")
    chosen = {"model": "xpu:1", "vae": "xpu:1"}
    broken = placed(**chosen)
    broken["16"]["inputs"]["seed"] += 1
    size = {"width": 64, "height": 64, "batch_size": 1}
    broken["20"] = {"class_type": "EmptySD3LatentImage", "inputs": size}  # sixteen channels
    broken["21"] = {"class_type": "VAEDecode", "inputs": {"samples": ["20", 0], "vae": ["6", 0]}}
    broken["22"] = {"class_type": "PreviewImage", "inputs": {"images": ["21", 0]}}
    server.run({key: node for key, node in broken.items() if key not in ("20", "21", "22")})
    with pytest.raises(WorkflowError, match="VAEDecode: RuntimeError"):
        server.run(broken)
    for workflow, on_second in ((placed(**chosen), True), (without_placing(placed()), False)):
        before, crossed = products(server), crossings(server)
        run = server.run(workflow)
        assert "16" in run.executed
        assert not {COMPONENTS[one] for one in chosen} & set(run.executed)
        assert distance(run, on_the_cpu[True]) <= 1
        assert (products(server)[1] > before[1]) == on_second
        assert crossings(server) == crossed
