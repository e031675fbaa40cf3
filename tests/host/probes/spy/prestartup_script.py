"""The spy's first moment: is the host changed when it imports what copies from it?"""

import os
import sys


class Watch:
    """Finds nothing; notes how the model management stands when attention is imported."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        """Note it in the environment: this file is no module that anybody could ask later."""
        if name == "comfy.ldm.modules.attention":
            management = sys.modules["comfy.model_management"]
            os.environ["SPY_EARLY"] = str(hasattr(management.get_free_memory, "__wrapped__"))


sys.meta_path.insert(0, Watch())
