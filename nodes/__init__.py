"""The nodes that a user sees. Ids are forever: saved workflows name them."""

from .select_device import IpexSelectDevice, IpexSelectDeviceControlNet
from .xpu_report import IpexXpuReport

NODE_CLASS_MAPPINGS = {
    "IpexSelectDevice": IpexSelectDevice,
    "IpexSelectDeviceControlNet": IpexSelectDeviceControlNet,
    "IpexXpuReport": IpexXpuReport,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "IpexSelectDevice": "Select Device",
    "IpexSelectDeviceControlNet": "Select Device (ControlNet)",
    "IpexXpuReport": "XPU Report",
}
