"""comfyui-ipex: what ComfyUI imports. See docs/architecture.md for the way through the code."""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from .xpu_runtime import runtime

WEB_DIRECTORY = "./web"

runtime.or_exit(runtime.start)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
