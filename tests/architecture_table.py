"""THE table of spandrel's architectures, each as small a network as it can be loaded from."""

import sys
from dataclasses import dataclass, field
from typing import Any

EXTRA = frozenset(
    [
        "SRFormer",
        "CodeFormer",
        "MAT",
        "DDColor",
        "AdaCode",
        "FeMaSR",
        "M3SNet",
        "Restormer",
        "MPRNet",
        "MIRNet2",
    ]
)
"""Those of the package spandrel_extra_arches."""


@dataclass(frozen=True)
class Small:
    """How a network is made that spandrel recognises."""

    parameters: dict[str, Any] = field(default_factory=dict)
    of: str = ""
    """The class, where it is not called like the architecture."""
    not_run: str = ""
    """Why the network is loaded and run dry, but not run."""
    random: str = ""
    """Why two runs differ, where they do."""


_WINDOWS = {"depths": [1, 1], "num_heads": [2, 2], "window_size": 8, "mlp_ratio": 2.0}
_TWICE = {"upscale": 2, "upsampler": "pixelshuffledirect"}
_ONE_OF_EACH = {"middle_blk_num": 1, "enc_blk_nums": [1], "dec_blk_nums": [1]}
_NETS = {"nc": [8, 16, 32, 64], "nb": 4}
_FIXED = "its constructor takes no smaller network, and its pictures are 512x512: 5 s and more"

TABLE: dict[str, Small] = {
    "ATD": Small(
        {
            **{"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2), "category_size": 16},
            **{"num_tokens": 8, "reducted_dim": 4, **_TWICE},
        }
    ),
    "AdaCode": Small({"codebook_params": [[32, 32, 32]]}),
    "AuraSR": Small(
        {
            **{"dim": 8, "image_size": None, "input_image_size": None, "self_attn_dim_head": 8},
            **{"style_network": {"dim_in": 16, "dim_out": 64, "depth": 2}},
            **{"up_dim_mults": (1, 1, 2, 2, 4), "down_dim_mults": (2, 2, 4)},
            **{"attn_depths": (2, 2, 2, 1, 1), "mid_attn_depth": 1, "skip_connect_scale": 0.4},
        },
        random="it is a GAN that adds noise in each call",
    ),
    "CRAFT": Small({"embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "upscale": 2}),
    "CodeFormer": Small(
        {"dim_embd": 64, "n_layers": 1, "codebook_size": 32, "connect_list": ["32"]},
        not_run=_FIXED,
    ),
    "Compact": Small({"num_feat": 8, "num_conv": 2, "upscale": 2}),
    "DAT": Small({"embed_dim": 32, "depth": [1, 1], "num_heads": [2, 2]}),
    "DCTLSA": Small({"nf": 10, "upscale": 2}),
    "DDColor": Small(
        {
            **{"encoder_name": "convnext-t", "num_output_channels": 2},
            **{"num_queries": 20, "dec_layers": 3},
        }
    ),
    "DITN": Small({"dim": 12, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2}),
    "DRCT": Small(
        {
            **{"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "gc": 8},
            **{"upscale": 2, "upsampler": "pixelshuffle"},
        }
    ),
    "DRUNet": Small({"in_nc": 4, "out_nc": 3, **_NETS}),
    "DnCNN": Small({"in_nc": 4, "out_nc": 3, "nc": 8, "nb": 8, "mode": "FDnCNN"}),
    "ESRGAN": Small({"num_filters": 8, "num_blocks": 1, "scale": 2}),
    "FBCNN": Small({"nc": [8, 16, 32, 512], "nb": 2}),
    "FDAT": Small(
        {
            **{"scale": 2, "embed_dim": 16, "num_groups": 1, "depth_per_group": 1},
            **{"num_heads": 2, "mid_dim": 8},
        }
    ),
    "FFTformer": Small({"dim": 8, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),
    "FeMaSR": Small({"codebook_params": [[32, 32, 32]]}),
    "GFPGAN": Small(not_run=_FIXED),
    "GRL": Small(
        {
            **{"embed_dim": 12, "depths": [1, 1], "num_heads_window": [2, 2]},
            **{"num_heads_stripe": [2, 2], "mlp_ratio": 2.0, **_TWICE},
        }
    ),
    "HAT": Small({"embed_dim": 12, "num_feat": 8, "squeeze_factor": 4, "upscale": 2, **_WINDOWS}),
    "HVICIDNet": Small({"channels": [8, 8, 16, 32]}),
    "IPT": Small({"n_feats": 8, "num_heads": 2, "num_layers": 1, "patch_size": 12, "scale": [2]}),
    "KBNet": Small({"width": 8, **_ONE_OF_EACH}, of="KBNet_s"),
    "LaMa": Small({"in_nc": 4}),
    "M3SNet": Small({"width": 8, **_ONE_OF_EACH}),
    "MAT": Small(),
    "MIRNet2": Small({"n_feat": 16, "n_MRB": 1}),
    "MMRealSR": Small(
        {
            **{"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "num_grow_ch": 4},
            **{"num_feats": [4, 4, 8, 8], "num_blocks": [1, 1, 1, 1]},
        }
    ),
    "MPRNet": Small({"n_feat": 8, "scale_unetfeats": 4, "scale_orsnetfeats": 4, "num_cab": 1}),
    "MixDehazeNet": Small({"embed_dims": [8, 16, 32, 16, 8], "depths": [1, 1, 1, 1, 1]}),
    "MoESR": Small({"scale": 2, "dim": 8, "n_blocks": 1, "n_block": 1, "upsample_dim": 8}),
    "MoSR": Small({"upscale": 2, "n_block": 1, "dim": 8}),
    "NAFNet": Small({"width": 8, **_ONE_OF_EACH}),
    "OmniSR": Small({"num_feat": 8, "up_scale": 2}),
    "PLKSR": Small({"dim": 8, "n_blocks": 1, "upscaling_factor": 2}),
    "RCAN": Small({"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 16}),
    "RGT": Small({"embed_dim": 12, "depth": [1, 1], "num_heads": [2, 2]}),
    "RealCUGAN": Small(of="UpCunet2x"),
    "RestoreFormer": Small(
        {
            **{"ch": 32, "n_embed": 64, "embed_dim": 32, "z_channels": 32},
            **{"ch_mult": (1, 1, 1, 1, 1, 1), "num_res_blocks": 1},
        }
    ),
    "Restormer": Small({"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1}),
    "RetinexFormer": Small({"n_feat": 8, "stage": 1}),
    "SAFMN": Small({"dim": 8, "n_blocks": 1, "upscaling_factor": 2}),
    "SAFMNBCIE": Small({"dim": 8, "n_blocks": 1, "num_layers": 1}),
    "SCUNet": Small({"config": [1, 1, 1, 1, 1, 1, 1]}),
    "SPAN": Small({"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}),
    "SRFormer": Small({"embed_dim": 12, **_WINDOWS, **_TWICE}),
    "SeemoRe": Small({"scale": 2, "embedding_dim": 8, "num_layers": 1}),
    "Swin2SR": Small({"embed_dim": 12, **_WINDOWS, **_TWICE}),
    "SwiftSRGAN": Small({"num_channels": 8, "num_blocks": 2, "upscale_factor": 2}),
    "SwinIR": Small({"embed_dim": 12, **_WINDOWS, **_TWICE}),
    "Uformer": Small({"embed_dim": 8, "depths": [1] * 9}),
}


def weights(architecture: Any) -> dict[str, Any]:
    """Random weights, always the same, that belong to `architecture` (spandrel's object)."""
    import torch

    small = TABLE[architecture.id]
    module = sys.modules[type(architecture).__module__]
    torch.manual_seed(8)
    network = getattr(module, small.of or architecture.id)(**small.parameters)
    return {
        name: value.detach().clone().contiguous() for name, value in network.state_dict().items()
    }
