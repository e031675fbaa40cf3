"""A pack beside this extension, which writes down at the end what it sees of it."""

import atexit
import json
import os
import sys
from typing import Any

NODE_CLASS_MAPPINGS: dict[str, Any] = {}


def report() -> None:
    """Write it as JSON to the file that SPY_REPORT names."""
    from comfy.cli_args import args

    runtimes = [name for name in sys.modules if name.endswith(".xpu_runtime.runtime")]
    loaded = [sys.modules[name].current() for name in runtimes]
    seen = {
        "runtimes": runtimes,
        "early": os.environ.get("SPY_EARLY") == "True",
        "seams": [
            {status.seam: status.text for status in runtime.installation.statuses()}
            for runtime in loaded
            if runtime is not None and runtime.installation is not None
        ],
        "finders": [
            type(finder).__module__
            for finder in sys.meta_path
            if type(finder).__name__ == "_Finder"
        ],
        "cpu": args.cpu,
        "ipex_optimize": not getattr(args, "disable_ipex_optimize", True),
    }
    with open(os.environ["SPY_REPORT"], "w", encoding="utf-8") as file:
        json.dump(seen, file)


atexit.register(report)
