"""Intel's archived extension of torch, kept from ending the process. Standard library only.

IPEX 2.7 to 2.10 call `os._exit(127)` while they are imported if torch's major.minor is not
theirs, which no `except` of the host can catch; hosts up to 0.3.75 import it wherever it is
installed. Hosts do without it: torch has the XPU itself.
"""

import importlib.util
import re
import sys

from .log import LOGGER

PACKAGE = "intel_extension_for_pytorch"


def mismatch(ipex: str | None, torch: str) -> str | None:
    """Why an installed IPEX must not be imported, or None if it fits torch.

    `ipex` is its version, or None if that cannot be told.
    """
    if ipex is None:
        return f"{PACKAGE} does not tell its version, and one that does not fit torch {torch}"
    if _release(ipex) == _release(torch):
        return None
    return f"{PACKAGE} {ipex} does not fit torch {torch}, and"


def block_mismatched(torch: str) -> None:
    """Let imports of an installed IPEX that does not fit `torch` fail, and say so.

    What imports it gets an ImportError, which hosts answer with torch's own XPU support.
    """
    # Nothing is executed by this: the package has no parent.
    if PACKAGE in sys.modules or importlib.util.find_spec(PACKAGE) is None:
        return
    reason = mismatch(installed_version(), torch)
    if reason is None:
        return
    sys.modules[PACKAGE] = None  # type: ignore[assignment]
    LOGGER.warning(
        "comfyui-ipex: %s would end ComfyUI without a word, so it is not imported. Uninstall it "
        "(pip uninstall %s): torch's own XPU support serves. Or install the torch of its version.",
        reason,
        PACKAGE,
    )


def installed_version() -> str | None:
    """The version of the installed IPEX, or None if it does not tell."""
    # Costs more than all of our own modules, and hardly anybody has IPEX.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def _release(version: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", version)[:2])
