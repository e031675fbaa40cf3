"""The way in: `python batch TASK OPTIONS`, which the launcher runs in the set-up environment."""

import importlib
import sys
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Python put this folder there, whose modules are a package's.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]
sys.dont_write_bytecode = True
# The repository as a package, without running its __init__.py, which belongs to ComfyUI.
package = types.ModuleType("comfyui_ipex")
package.__path__ = [str(HERE.parent)]
sys.modules["comfyui_ipex"] = package

sys.exit(importlib.import_module("comfyui_ipex.batch.cli").main(sys.argv[1:]))
