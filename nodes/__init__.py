"""The nodes that a user sees. Ids are forever: saved workflows name them."""

from .select_device import IpexSelectDevice, IpexSelectDeviceControlNet
from .upscale.classes import (
    IpexInpaintWithModel,
    IpexUpscaleImage,
    IpexUpscaleModelInfo,
    IpexUpscaleModelLoader,
)
from .xpu_report import IpexXpuReport

NODE_CLASS_MAPPINGS = {
    "IpexSelectDevice": IpexSelectDevice,
    "IpexSelectDeviceControlNet": IpexSelectDeviceControlNet,
    "IpexXpuReport": IpexXpuReport,
    "IpexUpscaleModelLoader": IpexUpscaleModelLoader,
    "IpexUpscaleImage": IpexUpscaleImage,
    "IpexInpaintWithModel": IpexInpaintWithModel,
    "IpexUpscaleModelInfo": IpexUpscaleModelInfo,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "IpexSelectDevice": "Select Device",
    "IpexSelectDeviceControlNet": "Select Device (ControlNet)",
    "IpexXpuReport": "XPU Report",
    "IpexUpscaleModelLoader": "Load Upscale Model (IPEX)",
    "IpexUpscaleImage": "Upscale Image (IPEX)",
    "IpexInpaintWithModel": "Inpaint with Model (IPEX)",
    "IpexUpscaleModelInfo": "Upscale Model Info (IPEX)",
}
