"""Everything that must be there before a server can start: environment, host, folders, link."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..xpu_runtime.hardware import detect
from ..xpu_runtime.settings import read
from .choice import DeviceDecision, decide
from .console import say
from .environment import Environment
from .errors import SetupError
from .folders import REPOSITORY, user_data
from .hosts import HostTree, own_tree, resolve
from .releases import REFERENCE
from .server import ServerCommand

EXTENSION_NAME = "comfyui-ipex"


@dataclass(frozen=True)
class PreparedHost:
    """A host that is ready to start with this extension."""

    environment: Environment
    tree: HostTree
    base: Path | None
    """The host's base directory, or None when it is the tree itself."""
    decision: DeviceDecision
    workers: str = ""
    """COMFYUI_IPEX_WORKERS for the host."""

    @property
    def base_folder(self) -> Path:
        """Where models, input and output lie."""
        return self.base or self.tree.path

    def server_command(self, port: int, arguments: tuple[str, ...] = ()) -> ServerCommand:
        chosen = (*self.decision.arguments, *arguments)
        python = (str(self.environment.python),)
        setting = self.decision.setting
        tree, workers = self.tree.path, self.workers
        return ServerCommand(python, tree, self.base, port, chosen, setting, workers)


def environment_folder(version: str) -> Path:
    """One environment a host version: their requirements exclude each other."""
    name = ".venv" if version == REFERENCE else f".venv-{version}"
    return REPOSITORY / name


def release_environment(
    version: str, environ: Mapping[str, str] = os.environ
) -> tuple[Environment, HostTree]:
    """The tree of a ComfyUI release, and the environment that it runs in, set up if need be.

    Raises `SetupError`.
    """
    environment = Environment(environment_folder(version))
    environment.create()
    tree = resolve(version, environment.install_wheel, environ)
    environment.install_host(tree.path, detect().torch_backend)
    environment.install_extension(tree.path)
    return environment, tree


def set_up(
    version: str, request: str, environ: Mapping[str, str], worker: str = ""
) -> PreparedHost:
    """Do what is missing of the set-up; nothing if all of it was done before.

    `version` is a ComfyUI release (used only if the user has no ComfyUI of their own),
    `request` a device name or "auto", `worker` the kind of a worker's devices or "". Raises
    `SetupError`.
    """
    hardware = detect()
    own = enclosing_host() or _named_host(environ)
    base: Path | None = None
    if own is None:
        environment, tree = release_environment(version, environ)
        base = prepare_base(user_data(environ), tree.path)
    else:
        tree = own_tree(own)
        environment = Environment(environment_folder(tree.version))
        environment.create()
        environment.install_host(tree.path, hardware.torch_backend)
        environment.install_extension(tree.path)
    link_extension(base or tree.path, own_home=base is not None)
    decision = decide(request, hardware, environment.probe(hardware))
    workers = worker_setting(tree, worker, environ)
    return PreparedHost(environment, tree, base, decision, workers)


def worker_setting(tree: HostTree, kind: str, environ: Mapping[str, str]) -> str:
    """COMFYUI_IPEX_WORKERS for a host: the user's, and a worker of `kind` with its environment.

    The environment is set up if need be; "" stands for no worker of the launcher's own. Raises
    `SetupError`.
    """
    named = read("COMFYUI_IPEX_WORKERS", environ)
    if not kind:
        return named
    environment = worker_environment(tree, kind)
    own = f"{kind}:{shlex.quote(str(environment.python))}"
    return f"{named},{own}" if named else own


def worker_environment(tree: HostTree, kind: str) -> Environment:
    """A second environment for a host's tree, with torch for `kind` of cards, set up if need be.

    Raises `SetupError`.
    """
    folder = environment_folder(tree.version)
    environment = Environment(folder.with_name(f"{folder.name}-worker-{kind}"))
    environment.create()
    # The default index has torch for CUDA.
    environment.install_host(tree.path, "default" if kind == "cuda" else kind)
    environment.install_extension(tree.path)
    return environment


def enclosing_host() -> Path | None:
    """The ComfyUI tree whose custom_nodes folder holds this repository, if one does."""
    parent = REPOSITORY.parent
    if parent.name == "custom_nodes" and (parent.parent / "main.py").exists():
        return parent.parent
    return None


def _named_host(environ: Mapping[str, str]) -> Path | None:
    named = read("COMFYUI_DIR", environ)
    return Path(named).expanduser().resolve() if named else None


def prepare_base(base: Path, tree: Path) -> Path:
    """Make the folders of a ComfyUI base directory, named as in the host's own tree."""
    for name in ("custom_nodes", "input", "output", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for folder in (tree / "models").iterdir():
        if folder.is_dir():
            (base / "models" / folder.name).mkdir(parents=True, exist_ok=True)
    return base


def link_extension(base: Path, own_home: bool = False) -> None:
    """Link this repository into the base directory's custom_nodes, unless it is there.

    In the launcher's `own_home` a link to another clone is replaced: the launcher made it, and
    the clone that was started last serves. Raises `SetupError` if another copy of the extension
    stands in its place.
    """
    link = base / "custom_nodes" / EXTENSION_NAME
    if REPOSITORY.parent == link.parent:
        return
    if link.is_symlink() and not link.exists():
        link.unlink()
    elif own_home and link.is_symlink() and link.resolve() != REPOSITORY:
        say(f"   {base} used the clone at {link.resolve()}; from now on it uses {REPOSITORY}")
        link.unlink()
    if not link.exists():
        link.symlink_to(REPOSITORY, target_is_directory=True)
    elif link.resolve() != REPOSITORY:
        raise SetupError(
            f"Another copy of this extension stands at {link}.",
            why=f"this one is {REPOSITORY}",
            remedy=f"Start that copy's own launcher, or remove it: rm -r {link}",
        )
