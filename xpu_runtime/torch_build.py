"""Which torch is installed, without importing it. Standard library only."""

import importlib.util
import re
from pathlib import Path

_VERSION = re.compile(r"^__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)


def installed_version() -> str | None:
    """torch's own `__version__`, such as "2.14.1+xpu", or None without a torch that tells it.

    The package's metadata would not do: a wheel from the default index leaves the part after
    the "+" out there.
    """
    spec = importlib.util.find_spec("torch")
    for folder in (spec and spec.submodule_search_locations) or ():
        try:
            found = _VERSION.search(Path(folder, "version.py").read_text(encoding="utf-8"))
        except OSError:
            continue
        if found is not None:
            return found[1]
    return None


def built_for(version: str) -> str:
    """What a torch of this version was built for: "cuda", "xpu", "rocm", "cpu", or "" if unsaid."""
    local = version.partition("+")[2]
    for prefix, kind in (("cu", "cuda"), ("xpu", "xpu"), ("rocm", "rocm"), ("cpu", "cpu")):
        if local.startswith(prefix):
            return kind
    return ""
