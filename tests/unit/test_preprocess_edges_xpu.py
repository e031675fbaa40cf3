"""Edge and line methods on an emulated card without fp64: the CPU's results, and no detours."""

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import edge_networks
import pytest
import torch
from comfyui_ipex.inference.weight_files import casting
from edge_networks import METHODS
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

Make = Callable[..., EmulatedXpu]
XPU = torch.device("xpu:0")
GIB = 1 << 30
CASES = [(name, "") for name in sorted(METHODS)] + [("AnyLine", "lineart_realistic")]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """For checkpoints."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.mark.parametrize(("name", "lines"), CASES)
def test_a_hint_is_the_cpus_and_is_made_on_the_card(
    name: str, lines: str, folder: Path, emulated_xpu: Make
) -> None:
    method, images = METHODS[name], edge_networks.pictures(64, 128)
    options = edge_networks.defaults(method, **({"merge_with_lineart": lines} if lines else {}))
    network = edge_networks.loaded(method, options, folder)
    expected = edge_networks.hint(copy.deepcopy(network), method, images, options)
    emulated = emulated_xpu([DeviceSpec(A770, external_memory=A770.total_memory - 2 * GIB)])
    network.to(XPU)
    there = images.to(XPU)
    emulated.reset_counters()
    made = edge_networks.hint(network, method, there, options)
    counted = emulated.devices[0].counters()
    assert counted["kernels"]
    assert counted["h2d"]["bytes"] < 4096
    assert counted["items"] == 0
    # Straight lines are drawn on the CPU: 200 candidates of 7 numbers for each picture.
    assert counted["d2h"]["bytes"] == (2 * 200 * 7 * 4 if name == "MLSD" else 0)
    assert made.device.type == ("cpu" if name == "MLSD" else "xpu")
    differing = ((made.cpu() - expected).abs() > 1e-4).float().mean()
    assert float(differing) < 0.002, "more than what lies on the border of a step"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs_on_the_card(
    dtype: torch.dtype, folder: Path, emulated_xpu: Make
) -> None:
    method, images = METHODS["HED"], edge_networks.pictures(64, 64)
    options = {"safe": "disable"}
    network = edge_networks.loaded(method, options, folder)
    expected = edge_networks.hint(network, method, images, options)
    emulated_xpu([DeviceSpec(A770)])
    casting.attach(network)
    network.to(XPU, dtype)
    made = edge_networks.hint(network, method, images.to(XPU), options)
    assert made.dtype == torch.float32
    assert float((made.cpu() - expected).abs().max()) < 0.05


@pytest.mark.parametrize("name", ["MLSD", "TEED"])
def test_a_failing_card_is_an_error_and_no_black_picture(
    name: str, folder: Path, emulated_xpu: Make
) -> None:
    method, images = METHODS[name], edge_networks.pictures(64, 64)
    options = edge_networks.defaults(method)
    network = edge_networks.loaded(method, options, folder)
    emulated = emulated_xpu([DeviceSpec(A770)])
    network.to(XPU)
    there = images.to(XPU)
    emulated.devices[0].fail_kernel(20)
    with pytest.raises(RuntimeError, match=r"UR_RESULT_ERROR|out of"):
        edge_networks.hint(network, method, there, options)


def test_pictures_and_network_on_two_devices_are_an_error(folder: Path, emulated_xpu: Make) -> None:
    emulated_xpu([DeviceSpec(A770)])
    network = edge_networks.loaded(METHODS["MLSD"], {}, folder)
    options = edge_networks.defaults(METHODS["MLSD"])
    with pytest.raises(RuntimeError, match=r"device|type"):
        edge_networks.hint(
            network, METHODS["MLSD"], edge_networks.pictures(64, 64).to(XPU), options
        )
