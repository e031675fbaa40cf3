"""The commands of a built bundle (`nix/`): which of its Pythons runs ComfyUI, on which device.

A torch is built for CUDA or for XPU, never for both, so a bundle holds a Python for each. Which
one starts is settled by what the kernel shows, before any torch is imported.
"""

import argparse
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...launcher.choice import host_arguments, host_setting
from ...launcher.console import say, warn
from ...launcher.errors import SetupError
from ...launcher.folders import user_data
from ...launcher.installation import prepare_base
from ...xpu_runtime import worker_plan
from ...xpu_runtime.devices import AUTO, CPU, Device
from ...xpu_runtime.hardware import Hardware, detect
from ...xpu_runtime.host import HostArguments
from ...xpu_runtime.no_gpu import Situation, hides_nvidia, why
from ...xpu_runtime.priority import SETTING, DeviceConflictError, Forced, forced, kind_of, primary
from ...xpu_runtime.settings import read

FORCE = "--force-intel-xpu"
LIBCUDA = "libcuda.so.1"
WSL_LIBRARIES = "usr/lib/wsl/lib"

# A built bundle is not changed but built again.
REBUILD = {
    "cuda": 'use comfyui-cuda, or a bundle with CUDA: comfyui-ipex.withBackends [ "cuda" "xpu" ]',
    "xpu": 'use comfyui-xpu, or a bundle with XPU: comfyui-ipex.withBackends [ "cuda" "xpu" ]',
}


@dataclass(frozen=True)
class Backend:
    """One Python of a bundle."""

    python: str
    torch: str
    """The version of its torch."""


@dataclass(frozen=True)
class Bundle:
    """What was built, as its bundle.json says."""

    host: Path
    """The patched ComfyUI tree."""
    paths: Path
    """ComfyUI's extra_model_paths file: node packs and models of the bundle."""
    nodes: tuple[str, ...]
    """The names of the node packs."""
    backends: Mapping[str, Backend]
    """By the device that its torch is built for: "cuda", "xpu" or "cpu"."""
    workers: tuple[worker_plan.WorkerPlan, ...] = ()

    @property
    def fallback(self) -> str:
        """The back end that runs on the CPU: every torch can."""
        return CPU if CPU in self.backends else next(iter(self.backends))


@dataclass(frozen=True)
class BundleStart:
    backend: str
    device: str
    """What is wanted: a device name; "xpu" is whichever comes first."""
    reason: str


def read_bundle(path: Path) -> Bundle:
    stated = json.loads(path.read_text(encoding="utf-8"))
    backends = {kind: Backend(**backend) for kind, backend in stated["backends"].items()}
    workers = tuple(
        worker_plan.WorkerPlan(name, worker["kind"], (worker["python"],))
        for name, worker in stated["workers"].items()
    )
    paths = Path(stated["host"]), Path(stated["paths"])
    return Bundle(*paths, tuple(stated["nodes"]), backends, workers)


def finds_libcuda(environ: Mapping[str, str], root: Path = Path("/")) -> bool:
    """Whether NVIDIA's driver library can be loaded: built programs look in no other places."""
    folders = [WSL_LIBRARIES, *environ.get("LD_LIBRARY_PATH", "").split(":")]
    return any((root / f.lstrip("/") / LIBCUDA).exists() for f in folders if f)


def demanded(command: str, setting: str, given: HostArguments) -> Forced | None:
    """What the user forces, by the name of the command or as on every host.

    Raises `ValueError` and `DeviceConflictError` as `priority.forced` does.
    """
    asked = forced(setting, given)
    kind = command.rpartition("-")[2]
    if kind not in ("cuda", "xpu"):
        return asked
    if asked is None:
        return Forced(kind, command)
    if kind_of(asked.request) != kind:
        raise DeviceConflictError(
            f"{command} and {asked.source} ask for different devices. Use comfyui-ipex, or drop "
            "one of them."
        )
    return asked


def choose_backend(
    bundle: Bundle, demand: Forced | None, hardware: Hardware, libcuda: bool, hidden: bool
) -> BundleStart:
    """Forced > CUDA > XPU > CPU, of the back ends that the bundle holds.

    A forced device is not looked for here: the host asks torch, and says why there is none.
    Raises `SetupError` if the bundle has no back end for it.
    """
    if demand is not None:
        kind = kind_of(demand.request)
        if kind != CPU and kind not in bundle.backends:
            raise SetupError(
                f"{demand.source} asks for {kind}, which this bundle does not hold.",
                why=f"it was built for {', '.join(bundle.backends)}",
                remedy=f"{REBUILD.get(kind, 'Choose another device')}.",
            )
        backend = kind if kind in bundle.backends else bundle.fallback
        return BundleStart(backend, demand.request, demand.source)
    usable = {
        "cuda": hardware.nvidia and libcuda and not hidden,
        "xpu": bool(hardware.open_nodes) or (hardware.wsl and not hardware.nvidia),
    }
    held = [Device(kind, kind) for kind in ("cuda", "xpu") if usable[kind]]
    available = [Device(d.name + ":0", d.label) for d in held if d.kind in bundle.backends]
    kind = primary(None, None, available).kind
    if kind == CPU:
        return BundleStart(bundle.fallback, CPU, why_no_gpu(bundle, hardware, libcuda, hidden))
    missed = [d.kind for d in held if d.kind not in bundle.backends]
    note = "".join(f"; for {other}, {REBUILD[other]}" for other in missed)
    return BundleStart(kind, kind, f"the first of {', '.join(d.kind for d in available)}{note}")


def why_no_gpu(bundle: Bundle, hardware: Hardware, libcuda: bool, hidden: bool) -> str:
    """Why the bundle runs on the CPU, and the remedy where there is one."""
    if hardware.nvidia and not libcuda and "cuda" in bundle.backends:
        return (
            f"NVIDIA's driver is loaded, but there is no {LIBCUDA} in LD_LIBRARY_PATH or "
            "/run/opengl-driver/lib: on NixOS set hardware.nvidia, elsewhere use nixGL"
        )
    return why(
        Situation(hardware, bundle.backends[bundle.fallback].torch, hidden), reinstall=REBUILD
    )


def worker_setting(bundle: Bundle, environ: Mapping[str, str]) -> dict[str, str]:
    """COMFYUI_IPEX_WORKERS with the bundle's workers, unless the user has set it to anything."""
    if not bundle.workers or worker_plan.SETTING in environ:
        return {}
    return {
        worker_plan.SETTING: ", ".join(
            f"{plan.name}={plan.kind}:{shlex.join(plan.command)}" for plan in bundle.workers
        )
    }


def build_parser() -> argparse.ArgumentParser:
    """Those of ComfyUI's arguments that matter before it starts."""
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--cpu", "--directml", FORCE):
        made.add_argument(flag, action="store_true")
    made.add_argument("-h", "--help", action="store_true")
    made.add_argument("--base-directory", type=Path)
    made.add_argument("--database-url")
    return made


def command_line(
    bundle: Bundle, choice: BundleStart, argv: Sequence[str], environ: Mapping[str, str]
) -> list[str]:
    """The whole command that starts ComfyUI; makes the folders that it names."""
    given = build_parser().parse_known_args(list(argv))[0]
    command = [bundle.backends[choice.backend].python, str(bundle.host / "main.py")]
    if given.help:
        return [*command, "--help"]
    base = given.base_directory or user_data(environ)
    prepare_base(base, bundle.host)
    for name in bundle.nodes:
        if (base / "custom_nodes" / name).exists():
            warn(f"{base / 'custom_nodes' / name} is loaded beside the bundle's own: remove it.")
    if given.base_directory is None:
        command += ["--base-directory", str(base)]
    if given.database_url is None:
        # Its default lies in the tree.
        command += ["--database-url", f"sqlite:///{base / 'user' / 'comfyui.db'}"]
    command += ["--extra-model-paths-config", str(bundle.paths)]
    if not given.cpu:
        command += host_arguments(choice.device.partition("@")[0])
    return [*command, *argv]


def main(
    argv: Sequence[str],
    command: str,
    description: Path,
    environ: Mapping[str, str] = os.environ,
    root: Path = Path("/"),
) -> int:
    """Become ComfyUI. Returns an exit status only where that failed."""
    bundle = read_bundle(description)
    given = build_parser().parse_known_args(list(argv))[0]
    arguments = HostArguments(given.cpu, given.directml, given.force_intel_xpu)
    hidden = hides_nvidia(environ)
    try:
        demand = demanded(command, read(SETTING, environ), arguments)
        if given.help:
            demand = Forced(CPU, "--help")
            say(f"{command}: ComfyUI for {', '.join(bundle.backends)}. What follows is its help.")
        choice = choose_backend(bundle, demand, detect(root), finds_libcuda(environ, root), hidden)
        line = command_line(bundle, choice, argv, environ)
    except (ValueError, DeviceConflictError, SetupError, OSError) as error:
        warn(str(error))
        return 1
    if not given.help:
        say(f"Device: {choice.device} ({choice.reason})")
    wanted = AUTO if demand is None else demand.request
    settings = {SETTING: host_setting(wanted), **worker_setting(bundle, environ)}
    os.execve(line[0], line, {**environ, **settings})
