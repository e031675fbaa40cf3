"""The commands of a built bundle: which Python and device they choose, by what the kernel shows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from comfyui_ipex.launcher.errors import SetupError
from comfyui_ipex.nix.start.bundle import (
    Backend,
    Bundle,
    BundleStart,
    choose_backend,
    command_line,
    demanded,
    finds_libcuda,
    read_bundle,
    worker_setting,
)
from comfyui_ipex.xpu_runtime import hardware
from comfyui_ipex.xpu_runtime.host import HostArguments
from comfyui_ipex.xpu_runtime.priority import DeviceConflictError
from comfyui_ipex.xpu_runtime.worker_plan import WorkerPlan, asked_for

CUDA = Backend("/store/cuda/bin/python3", "2.9.0+cu")
XPU = Backend("/store/xpu/bin/python3", "2.8.0+xpu")
CPU = Backend("/store/cpu/bin/python3", "2.9.0+cpu")

BOTH = {"cuda": CUDA, "xpu": XPU}

ARC = WorkerPlan("arc", "xpu", (XPU.python,))

NO_ARGUMENTS = HostArguments()
FORCE_XPU = HostArguments(force_intel_xpu=True)

DRIVER = "run/opengl-driver/lib"


def bundle(backends: dict[str, Backend], host: Path = Path("/host")) -> Bundle:
    """A bundle with these back ends."""
    return Bundle(host, Path("/paths.json"), ("comfyui-ipex",), backends)


def machine(root: Path, nvidia: bool = False, libcuda: bool = False, intel: int = 0) -> Path:
    """A tree as the kernel and the drivers of such a machine show it."""
    if nvidia:
        (root / "dev").mkdir()
        (root / "dev" / "nvidiactl").touch()
    if libcuda:
        (root / DRIVER).mkdir(parents=True)
        (root / DRIVER / "libcuda.so.1").touch()
    for number in range(128, 128 + intel):
        device = root / "sys" / "class" / "drm" / f"renderD{number}" / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x8086\n")
        (root / "dev" / "dri").mkdir(parents=True, exist_ok=True)
        (root / "dev" / "dri" / f"renderD{number}").touch()
    return root


def chosen(
    root: Path,
    backends: dict[str, Backend],
    command: str = "comfyui-ipex",
    given: HostArguments = NO_ARGUMENTS,
    setting: str = "auto",
    allowed: bool = True,
    hidden: bool = False,
) -> BundleStart:
    """What a command chooses on a machine."""
    seen = hardware.detect(root, lambda _: allowed)
    libcuda = finds_libcuda({"LD_LIBRARY_PATH": f"/{DRIVER}"}, root)
    demand = demanded(command, setting, given)
    return choose_backend(bundle(backends), demand, seen, libcuda, hidden)


NVIDIA_MACHINE = {"nvidia": True, "libcuda": True}
ARC_MACHINE = {"intel": 1}
BOTH_MACHINE = {"nvidia": True, "libcuda": True, "intel": 2}


@pytest.mark.parametrize(
    ("parts", "backends", "backend", "device"),
    [
        ({}, BOTH, "cuda", "cpu"),
        ({}, {"xpu": XPU, "cpu": CPU}, "cpu", "cpu"),
        (NVIDIA_MACHINE, BOTH, "cuda", "cuda"),
        (NVIDIA_MACHINE, {"xpu": XPU}, "xpu", "cpu"),
        (ARC_MACHINE, BOTH, "xpu", "xpu"),
        (ARC_MACHINE, {"cuda": CUDA}, "cuda", "cpu"),
        (BOTH_MACHINE, BOTH, "cuda", "cuda"),
        (BOTH_MACHINE, {"xpu": XPU}, "xpu", "xpu"),
        # A driver without its library, as outside NixOS: torch could not use the card.
        ({"nvidia": True, "intel": 1}, BOTH, "xpu", "xpu"),
    ],
)
def test_the_first_device_by_priority_is_chosen_of_those_the_bundle_can_use(
    tmp_path: Path,
    parts: dict[str, bool | int],
    backends: dict[str, Backend],
    backend: str,
    device: str,
) -> None:
    choice = chosen(machine(tmp_path, **parts), backends)  # type: ignore[arg-type]
    assert (choice.backend, choice.device) == (backend, device)


@pytest.mark.parametrize(
    ("command", "given", "setting", "backend", "device"),
    [
        ("comfyui-ipex", FORCE_XPU, "auto", "xpu", "xpu"),
        ("comfyui-ipex", NO_ARGUMENTS, "xpu:1", "xpu", "xpu:1"),
        ("comfyui-xpu", NO_ARGUMENTS, "auto", "xpu", "xpu"),
        ("comfyui-xpu", NO_ARGUMENTS, "xpu:1", "xpu", "xpu:1"),
        ("comfyui-cuda", NO_ARGUMENTS, "auto", "cuda", "cuda"),
        ("comfyui-ipex", NO_ARGUMENTS, "cpu", "cuda", "cpu"),
        ("comfyui-ipex", HostArguments(cpu=True), "auto", "cuda", "cpu"),
    ],
)
@pytest.mark.parametrize("parts", [{}, BOTH_MACHINE], ids=["nothing", "both"])
def test_a_forced_device_is_chosen_whatever_the_machine_shows(
    tmp_path: Path,
    parts: dict[str, bool | int],
    command: str,
    given: HostArguments,
    setting: str,
    backend: str,
    device: str,
) -> None:
    root = machine(tmp_path, **parts)  # type: ignore[arg-type]
    choice = chosen(root, BOTH, command, given, setting)
    assert (choice.backend, choice.device) == (backend, device)


def test_without_permission_it_runs_on_the_cpu_and_says_which_group_to_join(
    tmp_path: Path,
) -> None:
    choice = chosen(machine(tmp_path, intel=1), {"xpu": XPU}, allowed=False)
    assert choice.device == "cpu"
    assert "may not open /dev/dri/renderD128" in choice.reason
    assert "group" in choice.reason


@pytest.mark.parametrize(
    ("parts", "backends", "hidden", "words"),
    [
        ({}, BOTH, False, "no NVIDIA driver and no Intel render node was found"),
        ({"nvidia": True}, BOTH, False, "there is no libcuda.so.1"),
        (NVIDIA_MACHINE, BOTH, True, "CUDA_VISIBLE_DEVICES hides every NVIDIA card"),
        (NVIDIA_MACHINE, {"xpu": XPU}, False, "use comfyui-cuda, or a bundle with CUDA"),
        (ARC_MACHINE, {"cuda": CUDA}, False, "use comfyui-xpu, or a bundle with XPU"),
        (BOTH_MACHINE, {"xpu": XPU}, False, "for cuda, use comfyui-cuda"),
    ],
)
def test_what_is_not_used_is_said_with_a_remedy(
    tmp_path: Path,
    parts: dict[str, bool | int],
    backends: dict[str, Backend],
    hidden: bool,
    words: str,
) -> None:
    root = machine(tmp_path, **parts)  # type: ignore[arg-type]
    assert words in chosen(root, backends, hidden=hidden).reason


def test_a_device_that_the_bundle_does_not_hold_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        SetupError, match="asks for cuda, which this bundle does not hold"
    ) as raised:
        chosen(machine(tmp_path, **NVIDIA_MACHINE), {"xpu": XPU}, "comfyui-cuda")
    assert "withBackends" in str(raised.value)


@pytest.mark.parametrize(
    ("command", "given", "setting"),
    [
        ("comfyui-xpu", HostArguments(cpu=True), "auto"),
        ("comfyui-cuda", FORCE_XPU, "auto"),
        ("comfyui-cuda", NO_ARGUMENTS, "xpu:1"),
        ("comfyui-ipex", FORCE_XPU, "cuda"),
    ],
)
def test_two_sources_that_contradict_are_an_error(
    tmp_path: Path, command: str, given: HostArguments, setting: str
) -> None:
    with pytest.raises(DeviceConflictError, match="ask for different devices"):
        chosen(tmp_path, BOTH, command, given, setting)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A ComfyUI tree as far as the launcher looks at it."""
    (tmp_path / "host" / "models" / "vae").mkdir(parents=True)
    return tmp_path / "host"


def line(host: Path, choice: BundleStart, argv: Sequence[str], home: Path) -> list[str]:
    """The command that a choice leads to."""
    return command_line(bundle(BOTH, host), choice, argv, {"COMFYUI_IPEX_HOME": str(home)})


def test_the_host_gets_folders_that_can_be_written_and_the_bundles_packs(
    host: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    found = line(host, BundleStart("xpu", "xpu", ""), ["--port", "9000"], home)
    assert found == [
        XPU.python,
        str(host / "main.py"),
        *("--base-directory", str(home)),
        *("--database-url", f"sqlite:///{home}/user/comfyui.db"),
        *("--extra-model-paths-config", "/paths.json"),
        *("--port", "9000"),
    ]
    assert (home / "models" / "vae").is_dir()


@pytest.mark.parametrize(
    ("device", "flags"),
    [("cpu", ["--cpu"]), ("cuda:1", ["--cuda-device", "1"]), ("xpu:1", []), ("cuda", [])],
)
def test_the_choice_becomes_the_hosts_own_arguments(
    host: Path, tmp_path: Path, device: str, flags: list[str]
) -> None:
    found = line(host, BundleStart("cuda", device, ""), [], tmp_path / "home")
    assert found[found.index("/paths.json") + 1 :] == flags


def test_what_the_user_gives_is_not_given_twice(host: Path, tmp_path: Path) -> None:
    given = [f"--base-directory={tmp_path / 'mine'}", "--database-url=sqlite://", "--cpu"]
    found = line(host, BundleStart("cuda", "cpu", ""), given, tmp_path / "home")
    assert found[2:] == ["--extra-model-paths-config", "/paths.json", *given]
    assert (tmp_path / "mine" / "models" / "vae").is_dir()
    assert not (tmp_path / "home").exists()


def test_help_makes_no_folders(host: Path, tmp_path: Path) -> None:
    found = line(host, BundleStart("cuda", "cpu", ""), ["--help"], tmp_path / "home")
    assert found[2:] == ["--help"]
    assert not (tmp_path / "home").exists()


def test_a_second_copy_of_a_pack_is_told(
    host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home" / "custom_nodes" / "comfyui-ipex").mkdir(parents=True)
    line(host, BundleStart("xpu", "xpu", ""), [], tmp_path / "home")
    assert "is loaded beside the bundle's own" in capsys.readouterr().err


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path) -> None:
    stated = {
        "host": "/host",
        "extension": "/extension",
        "paths": "/paths.json",
        "nodes": ["comfyui-ipex"],
        "backends": {"xpu": {"python": XPU.python, "torch": XPU.torch}},
        "workers": {"arc": {"kind": "xpu", "python": XPU.python}},
    }
    (tmp_path / "bundle.json").write_text(json.dumps(stated))
    assert read_bundle(tmp_path / "bundle.json") == replace(bundle({"xpu": XPU}), workers=(ARC,))


def test_comfyui_is_told_the_bundles_workers_unless_the_user_names_others() -> None:
    spaced = WorkerPlan("two", "cpu", ("/my pythons/bin/python",))
    held = replace(bundle(BOTH), workers=(ARC, spaced))
    assert asked_for(worker_setting(held, {})) == (ARC, spaced)
    assert worker_setting(held, {"COMFYUI_IPEX_WORKERS": ""}) == {}
    assert worker_setting(bundle(BOTH), {}) == {}
