"""The weight files that a workflow for each node needs, written where servers find them."""

import os
from collections.abc import Iterable

import annotator_files
import models
from comfyui_ipex import nodes
from comfyui_ipex.nodes.preprocess.catalogue import METHODS

NETWORKS = {
    f"Ipex{name}Preprocessor": method for name, method in METHODS.items() if method.networks
}
"""Nodes with weights of their own."""

LARGE = frozenset(f"Ipex{name}Preprocessor" for name in annotator_files.LARGE)
"""Of those, the ones with hundreds of MB."""

SLOW = frozenset(f"Ipex{name}Preprocessor" for name in (*annotator_files.LARGEST, "Sam"))
"""Of those, the ones whose pictures take minutes on a CPU."""

SMALL = tuple(
    name
    for name in nodes.NODE_CLASS_MAPPINGS
    if name == "IpexTEEDPreprocessor" or name not in (*NETWORKS, "IpexInpaintWithModel")
)
"""All nodes without a network of their own, and one with."""


def written(names: Iterable[str]) -> None:
    """Write what is missing for these nodes."""
    folder = models.written()
    for name in {*names, "IpexTEEDPreprocessor"}:
        if name in NETWORKS:
            annotator_files.written(NETWORKS[name], folder / "annotators")
    lama = folder / "upscale_models" / "lama.safetensors"
    if not lama.exists():
        import node_prompts
        from safetensors.torch import save_file

        part = lama.with_name(f"{os.getpid()}-lama")
        save_file(node_prompts.lama(), part)
        part.replace(lama)
