"""comfyui-ipex: what ComfyUI imports. See docs/architecture.md for the way through the code."""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from .xpu_runtime import runtime, server_hooks, workers

WEB_DIRECTORY = "./web"

server_hooks.attach(runtime.or_exit(runtime.start))
runtime.or_exit(workers.start)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
