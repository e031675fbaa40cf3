"""The nodes that a user sees. Ids are forever: saved workflows name them."""

from .select_device import (
    IpexSelectDevice,
    IpexSelectDeviceCLIP,
    IpexSelectDeviceControlNet,
    IpexSelectDeviceVAE,
)
from .upscale.classes import (
    IpexInpaintWithModel,
    IpexUpscaleImage,
    IpexUpscaleModelInfo,
    IpexUpscaleModelLoader,
)
from .upscale.select_device import IpexSelectDeviceUpscaler
from .xpu_report import IpexXpuReport

NODE_CLASS_MAPPINGS = {
    "IpexSelectDevice": IpexSelectDevice,
    "IpexSelectDeviceCLIP": IpexSelectDeviceCLIP,
    "IpexSelectDeviceVAE": IpexSelectDeviceVAE,
    "IpexSelectDeviceControlNet": IpexSelectDeviceControlNet,
    "IpexSelectDeviceUpscaler": IpexSelectDeviceUpscaler,
    "IpexXpuReport": IpexXpuReport,
    "IpexUpscaleModelLoader": IpexUpscaleModelLoader,
    "IpexUpscaleImage": IpexUpscaleImage,
    "IpexInpaintWithModel": IpexInpaintWithModel,
    "IpexUpscaleModelInfo": IpexUpscaleModelInfo,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "IpexSelectDevice": "Select Device",
    "IpexSelectDeviceCLIP": "Select Device (CLIP)",
    "IpexSelectDeviceVAE": "Select Device (VAE)",
    "IpexSelectDeviceControlNet": "Select Device (ControlNet)",
    "IpexSelectDeviceUpscaler": "Select Device (Upscaler)",
    "IpexXpuReport": "XPU Report",
    "IpexUpscaleModelLoader": "Load Upscale Model (IPEX)",
    "IpexUpscaleImage": "Upscale Image (IPEX)",
    "IpexInpaintWithModel": "Inpaint with Model (IPEX)",
    "IpexUpscaleModelInfo": "Upscale Model Info (IPEX)",
}
