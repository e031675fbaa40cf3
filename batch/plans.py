"""How the servers of this machine are started: one for each device, of any maker."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..launcher.choice import decide
from ..launcher.environment import Environment
from ..launcher.errors import SetupError
from ..launcher.installation import PreparedHost, set_up, worker_environment
from ..launcher.server import ServerCommand
from ..xpu_runtime.devices import AUTO, CPU
from ..xpu_runtime.hardware import Hardware, detect

KINDS = ("cuda", "xpu", CPU)


@dataclass(frozen=True)
class ServerPlan:
    """How the server of one device is started, as plain values that may go to another process."""

    name: str
    """The device, with "#2" behind it if another server has it too."""
    python: str
    """The interpreter, whose torch knows the device."""
    tree: str
    base: str
    """The server's base directory; "" if it is the tree itself."""
    input: str
    """The folder with the user's own inputs."""
    arguments: tuple[str, ...]
    setting: str
    """COMFYUI_IPEX_DEVICE."""
    threads: int = 0
    """Threads of torch on the CPU; 0 leaves that to torch."""

    @property
    def device(self) -> str:
        return self.name.partition("#")[0]

    def command(self, port: int, more: Sequence[str]) -> ServerCommand:
        """Its command line, with the arguments `more` at the end."""
        return ServerCommand(
            (self.python,),
            Path(self.tree),
            Path(self.base) if self.base else None,
            port,
            (*self.arguments, *more),
            self.setting,
        )


def plan_servers(version: str, devices: str, arguments: Sequence[str]) -> list[ServerPlan]:
    """A plan for each device that `devices` names with commas; "" means every GPU, else the CPU.

    "cuda" and "xpu" alone mean all cards of that maker. `arguments` are ComfyUI's own. Raises
    `SetupError`.
    """
    installation = set_up(version, AUTO, os.environ)
    hardware = detect()
    found: list[ServerPlan] = []
    asked = [name.strip() for name in devices.split(",") if name.strip()]
    environments = _environments(installation, hardware, asked)
    for name in _expand(asked, environments, hardware):
        environment = environments[name.partition(":")[0]]
        decision = decide(name, hardware, environment.probe(hardware))
        found.append(
            ServerPlan(
                decision.device,
                str(environment.python),
                str(installation.tree.path),
                str(installation.base or ""),
                str(installation.base_folder / "input"),
                (*decision.arguments, *arguments),
                decision.setting,
            )
        )
    return share_processors(found, os.cpu_count() or 1, os.environ)


def share_processors(
    found: Sequence[ServerPlan], processors: int, environ: Mapping[str, str]
) -> list[ServerPlan]:
    """The same plans with names that differ, and the processors shared out between servers on them.

    OMP_NUM_THREADS in `environ` is left as the user's choice.
    """
    on_cpu = sum(plan.device == CPU for plan in found)
    threads = 0 if environ.get("OMP_NUM_THREADS") or not on_cpu else max(1, processors // on_cpu)
    counted: dict[str, int] = {}
    made = []
    for plan in found:
        number = counted[plan.name] = counted.get(plan.name, 0) + 1
        name = plan.name if number == 1 else f"{plan.name}#{number}"
        made.append(replace(plan, name=name, threads=threads if plan.device == CPU else 0))
    return made


def _environments(
    installation: PreparedHost, hardware: Hardware, asked: Sequence[str]
) -> dict[str, Environment]:
    """Which environment's torch knows which kind of device; set up where it is asked for."""
    main = installation.environment
    probe = main.probe(hardware)
    found = {kind: main for kind in KINDS if kind == CPU or getattr(probe, kind)}
    for name in asked:
        kind = name.partition(":")[0]
        if kind not in KINDS:
            raise SetupError(
                f"{name!r} names no device.",
                remedy="Use names such as cpu, cuda:0 and xpu:1, with commas; cuda and xpu alone "
                "mean all cards of that maker.",
            )
        if kind not in found:
            # No published torch holds both makers'.
            found[kind] = worker_environment(installation.tree, kind)
    return found


def _expand(
    asked: Sequence[str], environments: Mapping[str, Environment], hardware: Hardware
) -> list[str]:
    names: list[str] = []
    for name in asked or [kind for kind in KINDS if kind in environments]:
        if ":" in name or name == CPU:
            names.append(name)
            continue
        probed = environments[name].probe(hardware).devices
        # Where there is none, the name itself leads to the error that says why.
        names += [device for device in probed if device.startswith(name)] or [name]
    if not asked and len(names) > 1:
        names.remove(CPU)
    return names
