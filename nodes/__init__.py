"""The nodes that a user sees. Ids are forever: saved workflows name them."""

from .select_device import IpexSelectDevice, IpexSelectDeviceControlNet
from .upscale.classes import (
    IpexInpaintWithModel,
    IpexUpscaleImage,
    IpexUpscaleModelInfo,
    IpexUpscaleModelLoader,
)

NODE_CLASS_MAPPINGS = {
    "IpexSelectDevice": IpexSelectDevice,
    "IpexSelectDeviceControlNet": IpexSelectDeviceControlNet,
    "IpexUpscaleModelLoader": IpexUpscaleModelLoader,
    "IpexUpscaleImage": IpexUpscaleImage,
    "IpexInpaintWithModel": IpexInpaintWithModel,
    "IpexUpscaleModelInfo": IpexUpscaleModelInfo,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "IpexSelectDevice": "Select Device",
    "IpexSelectDeviceControlNet": "Select Device (ControlNet)",
    "IpexUpscaleModelLoader": "Load Upscale Model (IPEX)",
    "IpexUpscaleImage": "Upscale Image (IPEX)",
    "IpexInpaintWithModel": "Inpaint with Model (IPEX)",
    "IpexUpscaleModelInfo": "Upscale Model Info (IPEX)",
}
