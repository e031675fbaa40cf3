"""What the host's own source does since it was patched with `patches/`."""

import importlib
import sys

PATCHED = "comfy.xpu_runtime.patched"
"""The copy of `patched.py` that a patched host brings and has imported."""


def covers(seam: str, target: str) -> bool:
    """Whether this host does by itself what the seam of this name and target would do."""
    patched = sys.modules.get(PATCHED)
    if patched is None:
        return False
    # Only when the module is executed its functions say that they are patched.
    importlib.import_module(target.partition(":")[0])
    return seam in patched.covered()
