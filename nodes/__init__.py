"""The nodes that a user sees. Ids are forever: saved workflows name them."""

from .benchmark import IpexBenchmark
from .inputs import guarded
from .optimize import IpexOptimize
from .optimize_networks import IpexOptimizePreprocessor, IpexOptimizeUpscaler
from .pipeline.classes import IpexPipeline
from .preprocess.catalogue import METHODS
from .preprocess.classes import (
    IpexAIOPreprocessor,
    IpexApplyPreprocessor,
    IpexLoadPreprocessor,
    node_of,
)
from .select_device import (
    IpexSelectDevice,
    IpexSelectDeviceCLIP,
    IpexSelectDeviceControlNet,
    IpexSelectDeviceVAE,
)
from .upscale.classes import (
    IpexInpaintWithModel,
    IpexSelectDeviceUpscaler,
    IpexUpscaleImage,
    IpexUpscaleModelInfo,
    IpexUpscaleModelLoader,
)
from .xpu_report import IpexXpuReport

NODE_CLASS_MAPPINGS = {
    "IpexSelectDevice": IpexSelectDevice,
    "IpexSelectDeviceCLIP": IpexSelectDeviceCLIP,
    "IpexSelectDeviceVAE": IpexSelectDeviceVAE,
    "IpexSelectDeviceControlNet": IpexSelectDeviceControlNet,
    "IpexSelectDeviceUpscaler": IpexSelectDeviceUpscaler,
    "IpexOptimize": IpexOptimize,
    "IpexOptimizeUpscaler": IpexOptimizeUpscaler,
    "IpexOptimizePreprocessor": IpexOptimizePreprocessor,
    "IpexPipeline": IpexPipeline,
    "IpexXpuReport": IpexXpuReport,
    "IpexBenchmark": IpexBenchmark,
    "IpexUpscaleModelLoader": IpexUpscaleModelLoader,
    "IpexUpscaleImage": IpexUpscaleImage,
    "IpexInpaintWithModel": IpexInpaintWithModel,
    "IpexUpscaleModelInfo": IpexUpscaleModelInfo,
    "IpexLoadPreprocessor": IpexLoadPreprocessor,
    "IpexApplyPreprocessor": IpexApplyPreprocessor,
    "IpexAIOPreprocessor": IpexAIOPreprocessor,
    # One for each row of the catalogue, by the alphabet.
    "IpexAnyLinePreprocessor": node_of("AnyLine"),
    "IpexBinaryPreprocessor": node_of("Binary"),
    "IpexCannyPreprocessor": node_of("Canny"),
    "IpexColorPreprocessor": node_of("Color"),
    "IpexContentShufflePreprocessor": node_of("ContentShuffle"),
    "IpexDepthAnythingV2Preprocessor": node_of("DepthAnythingV2"),
    "IpexDWPosePreprocessor": node_of("DWPose"),
    "IpexHEDPreprocessor": node_of("HED"),
    "IpexImageIntensityPreprocessor": node_of("ImageIntensity"),
    "IpexImageLuminancePreprocessor": node_of("ImageLuminance"),
    "IpexInpaintPreprocessor": node_of("Inpaint"),
    "IpexLeresDepthPreprocessor": node_of("LeresDepth"),
    "IpexLineartPreprocessor": node_of("Lineart"),
    "IpexLineartAnimePreprocessor": node_of("LineartAnime"),
    "IpexMangaLinePreprocessor": node_of("MangaLine"),
    "IpexMidasDepthPreprocessor": node_of("MidasDepth"),
    "IpexMidasNormalPreprocessor": node_of("MidasNormal"),
    "IpexMLSDPreprocessor": node_of("MLSD"),
    "IpexNormalBaePreprocessor": node_of("NormalBae"),
    "IpexOpenposePreprocessor": node_of("Openpose"),
    "IpexPiDiNetPreprocessor": node_of("PiDiNet"),
    "IpexScribblePreprocessor": node_of("Scribble"),
    "IpexSamPreprocessor": node_of("Sam"),
    "IpexScribbleHEDPreprocessor": node_of("ScribbleHED"),
    "IpexScribblePiDiNetPreprocessor": node_of("ScribblePiDiNet"),
    "IpexScribbleXDoGPreprocessor": node_of("ScribbleXDoG"),
    "IpexStandardLineartPreprocessor": node_of("StandardLineart"),
    "IpexTEEDPreprocessor": node_of("TEED"),
    "IpexTilePreprocessor": node_of("Tile"),
    "IpexZoeDepthPreprocessor": node_of("ZoeDepth"),
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "IpexSelectDevice": "Select Device",
    "IpexSelectDeviceCLIP": "Select Device (CLIP)",
    "IpexSelectDeviceVAE": "Select Device (VAE)",
    "IpexSelectDeviceControlNet": "Select Device (ControlNet)",
    "IpexSelectDeviceUpscaler": "Select Device (Upscaler)",
    "IpexOptimize": "IPEX Optimize",
    "IpexOptimizeUpscaler": "IPEX Optimize (Upscaler)",
    "IpexOptimizePreprocessor": "IPEX Optimize (Preprocessor)",
    "IpexPipeline": "Pipeline (IPEX)",
    "IpexXpuReport": "XPU Report",
    "IpexBenchmark": "Benchmark (IPEX)",
    "IpexUpscaleModelLoader": "Load Upscale Model (IPEX)",
    "IpexUpscaleImage": "Upscale Image (IPEX)",
    "IpexInpaintWithModel": "Inpaint with Model (IPEX)",
    "IpexUpscaleModelInfo": "Upscale Model Info (IPEX)",
    "IpexLoadPreprocessor": "Load Preprocessor (IPEX)",
    "IpexApplyPreprocessor": "Apply Preprocessor (IPEX)",
    "IpexAIOPreprocessor": "AIO Preprocessor (IPEX)",
    **{f"Ipex{name}Preprocessor": f"{row.title} (IPEX)" for name, row in METHODS.items()},
}

for _node in NODE_CLASS_MAPPINGS.values():
    guarded(_node)
