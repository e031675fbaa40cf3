"""Workflows as ComfyUI's page saves them, made ready for a server and small for tests."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import annotator_files
import models
from comfyui_ipex.nodes.preprocess.catalogue import METHODS

STAND_INS = {
    "v1-5-pruned-emaonly.safetensors": "mini_sd15.safetensors",
    "control_v11f1p_sd15_depth.pth": "mini_sd15_controlnet.safetensors",
    "RealESRGAN_x4plus.pth": "mini_esrgan_x2.safetensors",
    "big-lama.pt": "mini_lama.safetensors",
}
"""By the file that users download: what tests have in its place."""

SMALLER = {
    "EmptyLatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 2},
    "IpexPipeline": {"steps": 1},
}

RESOLUTION = 128

_WIDGETS = frozenset(["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"])

_SEED_CONTROLS = frozenset(["fixed", "increment", "decrement", "randomize"])


def is_widget(kind: Any) -> bool:
    """Whether an input of this kind is a widget, not a socket."""
    return isinstance(kind, list) or kind in _WIDGETS


def as_prompt(workflow: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A saved workflow in API format; `known` is what the server says at /object_info.

    Raises `KeyError` for a node that the server does not know.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": _inputs(node, known[node["type"]]["input"], sources),
        }
        for node in workflow["nodes"]
    }


def _inputs(node: Mapping[str, Any], specs: Mapping[str, Any], sources: Any) -> dict[str, Any]:
    values = iter(node.get("widgets_values", []))
    found: dict[str, Any] = {}
    for group in ("required", "optional"):
        for name, spec in specs.get(group, {}).items():
            if not is_widget(spec[0]):
                continue
            # A newer host's widget that was not there when it was saved has its default.
            extra = spec[1] if len(spec) > 1 else {}
            found[name] = next(values, extra.get("default"))
            if extra.get("control_after_generate"):
                control = next(values)
                assert control in _SEED_CONTROLS, f"{node['type']}: {control!r} after {name}"
    linked = {one["name"]: one["link"] for one in node["inputs"] if one["link"] is not None}
    return found | {name: sources[link] for name, link in linked.items()}


def defaults(node: Mapping[str, Any]) -> dict[str, Any]:
    """What the page would set in a new node's widgets; `node` is its entry at /object_info."""
    groups = node["input"]
    specs = {**groups.get("required", {}), **groups.get("optional", {})}
    found = {}
    for name, spec in specs.items():
        extra = spec[1] if len(spec) > 1 else {}
        offered = _offered(spec)
        if is_widget(spec[0]) and ("default" in extra or offered):
            found[name] = extra.get("default", offered[0] if offered else None)
    return found


def made_small(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same with small models, small pictures and few steps."""
    for node in prompt.values():
        inputs = node["inputs"]
        inputs |= SMALLER.get(node["class_type"], {})
        if inputs.get("resolution"):
            inputs["resolution"] = RESOLUTION
        for name, value in inputs.items():
            if isinstance(value, str):
                inputs[name] = STAND_INS.get(value, value)
    return prompt


def unknown_choices(prompt: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """What is chosen in a prompt that the server does not offer, in words."""
    found = []
    for node in prompt.values():
        specs = known[node["class_type"]]["input"]
        for name, spec in {**specs.get("required", {}), **specs.get("optional", {})}.items():
            offered = _offered(spec)
            chosen = node["inputs"].get(name)
            if offered and isinstance(chosen, str) and chosen not in offered:
                found.append(f"{node['class_type']}.{name} = {chosen!r}")
    return found


def _offered(spec: Any) -> list[Any]:
    listed = spec[0] if isinstance(spec[0], list) else (spec[1:] and spec[1].get("options")) or []
    return [one["key"] if isinstance(one, dict) else one for one in listed]


def output_nodes(prompt: Mapping[str, Any], known: Mapping[str, Any]) -> set[str]:
    """The nodes whose results the server keeps."""
    return {key for key, node in prompt.items() if known[node["class_type"]]["output_node"]}


def write_stand_ins(prompt: Mapping[str, Any]) -> None:
    """Weights that a prompt needs and `models` does not write: LaMa's and preprocessors'."""
    folder = models.written()
    for node in prompt.values():
        chosen = node["inputs"].get(
            "preprocessor", node["class_type"][4:].removesuffix("Preprocessor")
        )
        if isinstance(chosen, str) and chosen in METHODS:
            annotator_files.written(METHODS[chosen], folder / "annotators")
    lama = folder / "upscale_models" / STAND_INS["big-lama.pt"]
    if lama.name in json.dumps(prompt) and not lama.exists():
        _write_lama(lama)


def _write_lama(path: Path) -> None:
    from architecture_table import weights
    from safetensors.torch import save_file
    from spandrel import MAIN_REGISTRY

    support = next(one for one in MAIN_REGISTRY.architectures() if one.architecture.id == "LaMa")
    draft = path.with_name(f"{path.name}.draft")
    save_file(weights(support.architecture), draft)
    draft.replace(path)


def video() -> bytes:
    """An MP4 of four frames of 64x64."""
    import av
    from PIL import Image

    photo = Image.open(io.BytesIO(models.photo())).convert("RGB")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for angle in range(0, 40, 10):
            frame = av.VideoFrame.from_image(photo.rotate(angle))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
