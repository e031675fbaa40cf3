"""The nodes that a user sees. Ids are forever: saved workflows name them."""

from .preprocess.catalogue import METHODS
from .preprocess.classes import (
    IpexAIOPreprocessor,
    IpexApplyPreprocessor,
    IpexLoadPreprocessor,
    node_of,
)
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
    "IpexLoadPreprocessor": IpexLoadPreprocessor,
    "IpexApplyPreprocessor": IpexApplyPreprocessor,
    "IpexAIOPreprocessor": IpexAIOPreprocessor,
    # One for each row of the catalogue, by the alphabet.
    "IpexBinaryPreprocessor": node_of("Binary"),
    "IpexCannyPreprocessor": node_of("Canny"),
    "IpexColorPreprocessor": node_of("Color"),
    "IpexContentShufflePreprocessor": node_of("ContentShuffle"),
    "IpexImageIntensityPreprocessor": node_of("ImageIntensity"),
    "IpexImageLuminancePreprocessor": node_of("ImageLuminance"),
    "IpexInpaintPreprocessor": node_of("Inpaint"),
    "IpexScribblePreprocessor": node_of("Scribble"),
    "IpexScribbleXDoGPreprocessor": node_of("ScribbleXDoG"),
    "IpexStandardLineartPreprocessor": node_of("StandardLineart"),
    "IpexTilePreprocessor": node_of("Tile"),
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "IpexSelectDevice": "Select Device",
    "IpexSelectDeviceControlNet": "Select Device (ControlNet)",
    "IpexXpuReport": "XPU Report",
    "IpexUpscaleModelLoader": "Load Upscale Model (IPEX)",
    "IpexUpscaleImage": "Upscale Image (IPEX)",
    "IpexInpaintWithModel": "Inpaint with Model (IPEX)",
    "IpexUpscaleModelInfo": "Upscale Model Info (IPEX)",
    "IpexLoadPreprocessor": "Load Preprocessor (IPEX)",
    "IpexApplyPreprocessor": "Apply Preprocessor (IPEX)",
    "IpexAIOPreprocessor": "AIO Preprocessor (IPEX)",
    **{f"Ipex{name}Preprocessor": f"{row.title} (IPEX)" for name, row in METHODS.items()},
}
