"""What this machine's file tree says about GPUs, and why torch offers none of them."""

from pathlib import Path

import pytest
from comfyui_ipex.xpu_runtime.hardware import Hardware, detect, may_open
from comfyui_ipex.xpu_runtime.no_gpu import CAUSES, Situation, hides_nvidia, why
from comfyui_ipex.xpu_runtime.torch_build import built_for

INTEL, NVIDIA, AMD = "0x8086", "0x10de", "0x1002"
DRIVER = "proc/driver/nvidia/version"


def machine(
    root: Path,
    *,
    nodes: tuple[str, ...] = (),
    cards: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    bare: bool = False,
) -> Path:
    """A file tree with render nodes and PCI display controllers of these vendors, and files.

    `bare` leaves out the device files of the render nodes, as in a container.
    """
    for number, vendor in enumerate(nodes, 128):
        device = root / f"sys/class/drm/renderD{number}/device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        files = files if bare else (*files, f"dev/dri/renderD{number}")
    for number, vendor in enumerate(cards):
        device = root / f"sys/bus/pci/devices/0000:0{number}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text("0x030000\n")
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@pytest.mark.parametrize(
    ("nodes", "files", "nvidia", "intel", "backend"),
    [
        ((), (), False, False, "cpu"),
        ((INTEL,), (), False, True, "xpu"),
        ((AMD, INTEL), (), False, True, "xpu"),
        ((AMD,), (), False, False, "cpu"),
        ((), ("dev/nvidiactl",), True, False, "default"),
        ((), ("usr/lib/wsl/lib/libcuda.so.1",), True, False, "default"),
        ((NVIDIA, INTEL), (DRIVER,), True, True, "default"),
        # An NVIDIA card without NVIDIA's driver cannot run CUDA.
        ((NVIDIA, INTEL), (), False, True, "xpu"),
    ],
)
def test_hardware_decides_the_torch_build(
    tmp_path: Path,
    nodes: tuple[str, ...],
    files: tuple[str, ...],
    nvidia: bool,
    intel: bool,
    backend: str,
) -> None:
    found = detect(machine(tmp_path, nodes=nodes, files=files), allowed=lambda _: True)
    mine = [f"/dev/dri/renderD{n}" for n, vendor in enumerate(nodes, 128) if vendor == INTEL]
    assert found == Hardware(nvidia=nvidia, intel=intel, open_nodes=tuple(mine))
    assert found.torch_backend == backend


def test_a_render_node_that_is_locked_or_missing_is_told_by_its_path(tmp_path: Path) -> None:
    tree = machine(tmp_path / "host", nodes=(AMD, INTEL))
    assert detect(tree, allowed=lambda _: False).locked_nodes == ("/dev/dri/renderD129",)
    container = machine(tmp_path / "container", nodes=(INTEL,), bare=True)
    found = detect(container, allowed=lambda _: False)
    assert (found.missing_nodes, found.locked_nodes) == (("/dev/dri/renderD128",), ())


def test_only_a_file_that_can_be_read_and_written_may_be_opened(tmp_path: Path) -> None:
    assert not may_open(tmp_path / "absent")
    (tmp_path / "node").touch()
    assert may_open(tmp_path / "node")


def test_what_cannot_be_read_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices/0000:00:00.0/class").mkdir(parents=True)
    (tmp_path / "sys/class/drm/renderD128/device/vendor").mkdir(parents=True)
    assert detect(tmp_path) == Hardware(nvidia=False, intel=False)


def test_a_controller_that_drives_no_display_is_no_gpu(tmp_path: Path) -> None:
    tree = machine(tmp_path, cards=(INTEL,))
    (tree / "sys/bus/pci/devices/0000:00:00.0/class").write_text("0x020000\n")  # Ethernet
    assert not detect(tree).intel_card


CUDA, XPU, CPU = "2.14.1+cu130", "2.14.1+xpu", "2.14.1+cpu"

SITUATIONS = {
    # name: (tree, may the render nodes be opened, torch, CUDA_VISIBLE_DEVICES hides, words)
    "nothing": ({}, True, CUDA, False, "no NVIDIA driver and no Intel render node"),
    "hidden": ({"files": (DRIVER,)}, True, CUDA, True, "CUDA_VISIBLE_DEVICES hides"),
    "cpu wheel, NVIDIA": ({"files": (DRIVER,)}, True, CPU, False, "not built for CUDA"),
    "old driver": ({"files": (DRIVER,)}, True, CUDA, False, "update the driver"),
    "wheel that does not say": ({"files": (DRIVER,)}, True, "2.8", False, "update the driver"),
    "cuda wheel, Intel": ({"nodes": (INTEL,)}, True, CUDA, False, "download.pytorch.org/whl/xpu"),
    "cpu wheel, Intel": ({"nodes": (INTEL,)}, True, CPU, False, "not built for XPU"),
    "locked": ({"nodes": (INTEL,)}, False, XPU, False, "may not open /dev/dri/renderD128"),
    "container": ({"nodes": (INTEL,), "bare": True}, True, XPU, False, "--device /dev/dri"),
    "no runtime": ({"nodes": (INTEL,)}, True, XPU, False, "install Intel's compute runtime"),
    "no NVIDIA driver": ({"cards": (NVIDIA,)}, True, CUDA, False, "driver is not loaded"),
    "WSL, wrong wheel": ({"files": ("dev/dxg",)}, True, CUDA, False, "if it is Intel's, install"),
    "WSL": ({"files": ("dev/dxg",)}, True, XPU, False, "inside WSL"),
    "old kernel": ({"cards": (INTEL,)}, True, XPU, False, "newer kernel"),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_reason_fits_the_machine(tmp_path: Path, name: str) -> None:
    tree, opens, torch, hidden, words = SITUATIONS[name]
    hardware = detect(machine(tmp_path, **tree), allowed=lambda _: opens)
    reason = why(Situation(hardware, torch, hidden))
    assert words in reason
    assert "{" not in reason


def test_every_cause_is_some_situations_reason(tmp_path: Path) -> None:
    told = set()
    for number, (tree, opens, torch, hidden, _) in enumerate(SITUATIONS.values()):
        hardware = detect(machine(tmp_path / str(number), **tree), allowed=lambda _, o=opens: o)
        situation = Situation(hardware, torch, hidden)
        told.add(next((cause.text for cause in CAUSES if cause.applies(situation)), None))
    assert told >= {cause.text for cause in CAUSES}


def test_with_both_makers_the_reason_is_about_what_torch_was_built_for() -> None:
    both = Hardware(nvidia=True, intel=True)
    assert "install Intel's compute runtime" in why(Situation(both, XPU, hidden=False))
    assert "update the driver" in why(Situation(both, CUDA, hidden=False))


def test_the_reason_is_about_the_kind_that_was_asked_for() -> None:
    both = Situation(Hardware(nvidia=True, intel=True), CUDA, hidden=False)
    assert "NVIDIA" in why(both)
    assert "not built for XPU" in why(both, ("xpu",))
    neither = Situation(Hardware(nvidia=False, intel=False), CUDA, hidden=False)
    assert why(neither, ("xpu",)) == "no Intel render node was found"
    assert why(neither, ("cuda",)) == "no NVIDIA driver was found"


@pytest.mark.parametrize(
    ("environ", "hides"),
    [
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": ""}, True),
        ({"CUDA_VISIBLE_DEVICES": " -1"}, True),
        ({"CUDA_VISIBLE_DEVICES": "1"}, False),
    ],
)
def test_an_empty_list_of_visible_cards_hides_them(environ: dict[str, str], hides: bool) -> None:
    assert hides_nvidia(environ) == hides


@pytest.mark.parametrize(
    ("version", "kind"),
    [(CUDA, "cuda"), (XPU, "xpu"), (CPU, "cpu"), ("2.9.0+rocm6.4", "rocm"), ("2.9.0", "")],
)
def test_a_version_tells_what_torch_was_built_for(version: str, kind: str) -> None:
    assert built_for(version) == kind
