"""Start a built bundle: start.py BUNDLE.JSON COMMAND [ComfyUI's arguments]."""

import json
import sys
import types
from pathlib import Path

description, command, *arguments = sys.argv[1:]

# The extension as a package, without running its __init__.py, which belongs to ComfyUI. What
# only a bundle needs (nix/start) lies beside this file.
extension = json.loads(Path(description).read_text(encoding="utf-8"))["extension"]
package = types.ModuleType("comfyui_ipex")
package.__path__ = [extension, str(Path(__file__).resolve().parent)]
sys.modules["comfyui_ipex"] = package

from comfyui_ipex.nix.start.bundle import main  # noqa: E402

sys.exit(main(arguments, command, Path(description)))
