"""The one way to the package controlnet-aux: classes of its networks, and nothing else of it.

The package's own __init__ imports all its detectors. That fails beside mediapipe 1.x (it asks for
`mediapipe.solutions`), replaces entries of timm's registry, sets KMP_DUPLICATE_LIB_OK and takes
seconds. Its parts import each other relatively, so they are imported here as parts of a package
of another name, which has the same folder and whose __init__ never runs.
"""

import importlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "controlnet_aux"

DISTRIBUTION = "controlnet-aux"

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"

_ALIAS = f"{__name__}_parts"

_REGISTERING = ("segment_anything",)
"""Parts that put networks of their own into timm's registry, over timm's."""

_lock = threading.Lock()


class NetworkPackageError(RuntimeError):
    """The package that a network comes from is missing, or is not as it should be."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"This preprocessor's network comes from the Python package {DISTRIBUTION}, but {why}. "
            "Install this extension's requirements into the Python that runs ComfyUI, then start "
            f'ComfyUI again: "{sys.executable}" -m pip install -r "{REQUIREMENTS}"'
        )


def network_class(target: str) -> Any:
    """What `target`, "controlnet_aux.hed:ControlNetHED_Apache2" for example, names.

    Nothing but modules of the package's parts, and of what they need, stays behind in the
    process. Raises `NetworkPackageError`.
    """
    module, _, name = target.partition(":")
    part = module.removeprefix(f"{PACKAGE}.")
    try:
        return getattr(_part(part), name)
    except AttributeError as error:
        raise NetworkPackageError(f"the installed version {_version()} lacks {target}") from error
    except ImportError as error:
        raise NetworkPackageError(
            f"its part {part} (version {_version()}) cannot be imported ({error})"
        ) from error


def _part(name: str) -> ModuleType:
    with _lock:
        known = sys.modules.get(f"{_ALIAS}.{name}")
        if known is not None:
            return known
        _prepare_package()
        with _surroundings_kept(name.partition(".")[0] in _REGISTERING):
            return importlib.import_module(f"{_ALIAS}.{name}")


def _prepare_package() -> None:
    if _ALIAS in sys.modules:
        return
    try:
        folder = metadata.distribution(DISTRIBUTION).locate_file(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise NetworkPackageError("it is not installed") from error
    package = ModuleType(_ALIAS, f"The parts of {DISTRIBUTION}, without its __init__.")
    package.__path__ = [str(folder)]
    sys.modules[_ALIAS] = package


def _version() -> str:
    return metadata.version(DISTRIBUTION)


@contextmanager
def _surroundings_kept(registering: bool) -> Iterator[None]:
    """Undo what an import does to the environment, to warnings and to timm's registry."""
    environment = dict(os.environ)
    tables = _timm_tables() if registering else {}
    contents = {name: _copy(table) for name, table in tables.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        for name, value in environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        for name, table in tables.items():
            table.clear()
            table.update(contents[name])


def _timm_tables() -> dict[str, Any]:
    """The dictionaries and sets that timm's registry is made of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("timm.models")
    registry = vars(sys.modules["timm.models._registry"])
    return {name: value for name, value in registry.items() if _is_table(name, value)}


def _is_table(name: str, value: Any) -> bool:
    return not name.startswith("__") and isinstance(value, dict | set)


def _copy(table: Any) -> Any:
    """A copy of a table whose values may be sets that grow."""
    if isinstance(table, set):
        return set(table)
    return {key: set(value) if isinstance(value, set) else value for key, value in table.items()}
