"""The one logger of this project; ComfyUI's handlers decide where its lines go."""

import logging

LOGGER = logging.getLogger("comfyui-ipex")
