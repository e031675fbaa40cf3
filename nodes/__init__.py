"""The nodes that a user sees. Ids are forever: saved workflows name them."""

from .select_device import IpexSelectDevice, IpexSelectDeviceControlNet

NODE_CLASS_MAPPINGS = {
    "IpexSelectDevice": IpexSelectDevice,
    "IpexSelectDeviceControlNet": IpexSelectDeviceControlNet,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "IpexSelectDevice": "Select Device",
    "IpexSelectDeviceControlNet": "Select Device (ControlNet)",
}
