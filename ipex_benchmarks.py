"""`ipex-benchmarks`, and `python -m ipex_benchmarks`: the way into `benchmarks/`.

docs/benchmarks.md says what it measures and how to read it.
"""

import importlib
import os
import sys
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the command line; returns the exit status."""
    source = (HERE / "xpu_runtime").is_dir()
    if source:
        # ComfyUI's module `nodes` must not be found here.
        kept = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != HERE]
        sys.path[:] = kept
    # The extension as a package, without running its __init__.py, which belongs to ComfyUI.
    package = types.ModuleType("comfyui_ipex")
    package.__path__ = [str(HERE if source else HERE / "comfyui_ipex")]
    sys.modules["comfyui_ipex"] = package
    return int(importlib.import_module("comfyui_ipex.benchmarks.cli").main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
