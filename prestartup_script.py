"""ComfyUI runs this alone, before it imports torch. See docs/architecture.md, "A device"."""

import importlib
import os
import sys
import types

# What ComfyUI will call this folder when it loads the pack: then one instance of each module
# serves both. The path is the one that ComfyUI joined, which may be a link to the real folder.
FOLDER = os.path.dirname(__file__)
NAME = FOLDER.replace(".", "_x_")

if NAME not in sys.modules:
    # ComfyUI puts the pack itself in its place; what was imported below it stays.
    package = types.ModuleType(NAME)
    package.__path__ = [FOLDER]
    sys.modules[NAME] = package

importlib.import_module(f"{NAME}.xpu_runtime.prestart").prepare()
