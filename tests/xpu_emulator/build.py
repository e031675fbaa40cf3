"""Compile the emulator's C++ once for each torch, and find it again.

The library lies in the user's cache, in a folder named after everything that it
depends on: sources, torch, Python's ABI, compiler flags. It is written under a
temporary name and renamed, so that two builders at a time are harmless: the
second merely replaces the first's file by an equal one.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

logger = logging.getLogger(__name__)

MODULE_NAME = "_xpu_emulator"
_SOURCES = Path(__file__).parent / "csrc"
_COMPILE_FLAGS = ("-O1", "-g0", "-fPIC", "-shared", "-fvisibility=hidden")


class BuildError(RuntimeError):
    """The C++ part of the emulator could not be compiled or loaded."""


def cache_root() -> Path:
    """Return the folder for compiled emulators (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "comfyui-ipex" / "xpu_emulator"


def _cxx_standard(torch_version: str) -> str:
    # torch's headers ask for C++20 from 2.12 on; earlier ones are tested with C++17.
    major, minor = (int(part) for part in torch_version.split(".")[:2])
    return "c++20" if (major, minor) >= (2, 12) else "c++17"


def fingerprint(torch_version: str) -> str:
    """Return the name under which the library for `torch_version` is cached."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    flags = (*_COMPILE_FLAGS, _cxx_standard(torch_version))
    for part in (torch_version, sysconfig.get_config_var("EXT_SUFFIX") or "", *flags):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def library_path(torch_version: str) -> Path:
    """Return where the library for `torch_version` is, or will be after `build`."""
    folder = f"torch-{torch_version}-{fingerprint(torch_version)}"
    return cache_root() / folder / f"{MODULE_NAME}.so"


def _compiler() -> str:
    wanted = os.environ.get("CXX") or "c++"
    for candidate in (wanted, "g++", "clang++"):
        found = shutil.which(candidate)
        if found:
            return found
    raise BuildError(
        f"The emulated XPU needs a C++ compiler to build itself, and neither {wanted!r} nor g++ "
        "nor clang++ is on PATH. Install one (Debian: apt install g++) or set CXX."
    )


def _command(compiler: str, torch_version: str, output: Path) -> list[str]:
    import torch
    from torch.utils import cpp_extension

    cxx11_abi = int(torch._C._GLIBCXX_USE_CXX11_ABI)
    libraries = Path(torch.__file__).parent / "lib"
    include = [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]
    return [
        compiler,
        f"-std={_cxx_standard(torch_version)}",
        *_COMPILE_FLAGS,
        f"-D_GLIBCXX_USE_CXX11_ABI={cxx11_abi}",
        f"-DTORCH_EXTENSION_NAME={MODULE_NAME}",
        *(f"-isystem{path}" for path in include),
        str(_SOURCES / "emulator.cpp"),
        "-o",
        str(output),
        f"-L{libraries}",
        *("-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"),
    ]


def build(torch_version: str) -> Path:
    """Return the compiled library for `torch_version`, compiling it if need be.

    Takes about half a minute the first time. Raises BuildError when there is no
    compiler or when it fails.
    """
    target = library_path(torch_version)
    if target.exists():
        return target
    if sys.platform != "linux":
        raise BuildError(f"The emulated XPU builds on Linux only, not on {sys.platform}.")
    compiler = _compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("Building the emulated XPU for torch %s: about half a minute.", torch_version)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        output = Path(folder) / target.name
        command = _command(compiler, torch_version, output)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BuildError(
                f"Compiling the emulated XPU failed (exit status {result.returncode}). "
                f"The command was:\n{' '.join(command)}\nIt said:\n{result.stderr[-4000:]}"
            )
        os.replace(output, target)
    return target


def load(torch_version: str) -> ModuleType:
    """Import the compiled library for `torch_version`, building it if need be."""
    path = build(torch_version)
    loader = importlib.machinery.ExtensionFileLoader(MODULE_NAME, str(path))
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path, loader=loader)
    if spec is None:
        raise BuildError(f"{path} is not an extension module. Delete it and try again.")
    try:
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except ImportError as error:
        raise BuildError(f"{path} does not load: {error}. Delete it and try again.") from error
    return module
