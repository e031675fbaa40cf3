"""A workflow for any node of this extension, made from what the node says of its inputs.

For processes of the host, after `register` was called there.
"""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hostile_pictures import masks, pictures

if TYPE_CHECKING:
    import torch

Prompt = dict[str, Any]

ASIDE: Mapping[str, Mapping[str, Any]] = {
    "IpexInpaintWithModel": {"upscale_model": "lama.safetensors"},
}
"""Files for a node's models where it does not take the small upscaler."""

SETTINGS: Mapping[str, Any] = {
    "precision": "fp32",
    "download": False,
    "resolution": 64,
    "preprocessor": "TEED",
    "model": "small",
    "points_per_side": 2,
    "model_name": "mini_esrgan_x2.safetensors",
    "steps": 1,
}
"""What widgets are set to, by their names; a menu without such an entry has its default."""


class AnyType(str):
    """A socket's type that goes with every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


def register(table: dict[str, Any]) -> None:
    """Put the nodes of these workflows into the host's `NODE_CLASS_MAPPINGS`."""
    kinds = ("STRING", {"default": "photo"})

    def source(kind: str, made: Any) -> type:
        shape = {"required": {"kind": kinds}}
        attributes = {
            "INPUT_TYPES": classmethod(lambda _: shape),
            "RETURN_TYPES": (kind,),
            "FUNCTION": "make",
            "CATEGORY": "tests",
            "make": lambda _, kind: (made(kind),),
        }
        return type(f"Source{kind}", (), attributes)

    anything = AnyType("*")
    turn = {"required": {"value": (anything, {}), "turn": ("INT", {"default": 0})}}
    table["SourceIMAGE"] = source("IMAGE", pictures)
    table["SourceMASK"] = source("MASK", masks)
    table["Shown"] = type(
        "Shown",
        (),
        {
            "INPUT_TYPES": classmethod(lambda _: {"required": {"images": (anything, {})}}),
            "RETURN_TYPES": (),
            "OUTPUT_NODE": True,
            "FUNCTION": "show",
            "CATEGORY": "tests",
            "show": lambda _, images: {"ui": {"text": [str(tuple(images.shape))]}},
        },
    )
    table["Turn"] = type(
        "Turn",
        (),
        {
            "INPUT_TYPES": classmethod(lambda _: turn),
            "RETURN_TYPES": (anything,),
            "FUNCTION": "make",
            "CATEGORY": "tests",
            "make": lambda _, value, turn: (value,),
        },
    )


def node(name: str, /, **inputs: Any) -> Prompt:
    """A node of a prompt."""
    return {"class_type": name, "inputs": inputs}


def _checkpoint(device: str, node_id: str) -> Prompt:
    del device, node_id
    return node("CheckpointLoaderSimple", ckpt_name="mini_sd15.safetensors")


def _controlnet(device: str, node_id: str) -> Prompt:
    del device, node_id
    return node("ControlNetLoader", control_net_name="mini_sd15_controlnet.safetensors")


def _upscaler(device: str, node_id: str) -> Prompt:
    name = ASIDE.get(node_id, {}).get("upscale_model", SETTINGS["model_name"])
    return node("IpexUpscaleModelLoader", model_name=name, device=device, precision="fp32")


def _preprocessor(device: str, node_id: str) -> Prompt:
    del node_id
    wanted = {name: SETTINGS[name] for name in ("preprocessor", "precision", "download")}
    return node("IpexLoadPreprocessor", device=device, **wanted)


def _conditioning(device: str, node_id: str) -> Prompt:
    del device, node_id
    # A node that takes conditioning takes a model too, and that one's checkpoint has the encoder.
    return node("CLIPTextEncode", clip=["model source", 1], text="a red fox")


SOURCES: Mapping[str, tuple[Any, int]] = {
    "IMAGE": (lambda *_: node("SourceIMAGE", kind="photo"), 0),
    "MASK": (lambda *_: node("SourceMASK", kind="photo"), 0),
    "MODEL": (_checkpoint, 0),
    "CLIP": (_checkpoint, 1),
    "VAE": (_checkpoint, 2),
    "CONDITIONING": (_conditioning, 0),
    "CONTROL_NET": (_controlnet, 0),
    "UPSCALE_MODEL": (_upscaler, 0),
    "PREPROCESSOR": (_preprocessor, 0),
    "LATENT": (lambda *_: node("EmptyLatentImage", width=64, height=64, batch_size=1), 0),
}
"""Where a socket's value comes from: a node, and which of its outputs."""


def _sampled(**own: Any) -> Prompt:
    """A picture of the checkpoint, in which `own` replaces some of its parts."""
    parts = {"model": ["c", 0], "clip": ["c", 1], "vae": ["c", 2], **own}
    text = ["text", 0]
    made = {
        "c": _checkpoint("", ""),
        "text": node("CLIPTextEncode", clip=parts["clip"], text="a red fox"),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "sample": node(
            "KSampler",
            **{"model": parts["model"], "positive": text, "negative": text, "seed": 1},
            **{"latent_image": ["latent", 0], "steps": 1, "cfg": 2.0, "denoise": 1.0},
            **{"sampler_name": "euler", "scheduler": "normal"},
        ),
        "out": node("VAEDecode", samples=["sample", 0], vae=parts["vae"]),
    }
    if "control_net" in own:
        made["control"] = node(
            "ControlNetApplyAdvanced",
            **{"positive": text, "negative": text, "control_net": own["control_net"]},
            **{"image": ["photo", 0], "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0},
        )
        made["sample"]["inputs"] |= {"positive": ["control", 0], "negative": ["control", 1]}
    return made


def consumers(kind: str, value: list[Any]) -> Prompt:
    """Nodes that make a picture, called "out", with an output of type `kind`; {} for texts."""
    if kind in ("MODEL", "CLIP", "VAE", "CONTROL_NET"):
        return _sampled(**{kind.lower(): value})
    if kind == "IMAGE":
        return {"out": node("ImageInvert", image=value)}
    if kind == "UPSCALE_MODEL":
        return {"out": node("IpexUpscaleImage", upscale_model=value, image=["photo", 0])}
    if kind == "PREPROCESSOR":
        shown = {"resolution": 64, "match_input_size": False}
        return {
            "out": node("IpexApplyPreprocessor", preprocessor=value, image=["photo", 0], **shown)
        }
    if kind == "MASK":
        return {"out": node("MaskToImage", mask=value)}
    if kind == "LATENT":
        return _sampled() | {"out": node("VAEDecode", samples=value, vae=["c", 2])}
    return {}


def schema(node_class: Any) -> dict[str, Any]:
    """All inputs of a node."""
    sections = node_class.INPUT_TYPES()
    return {**sections.get("required", {}), **sections.get("optional", {})}


def is_socket(kind: Any) -> bool:
    """Whether an input of this type is a socket, not a widget."""
    return isinstance(kind, str) and kind not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def widget(name: str, row: Any, device: str) -> Any:
    """What a widget is set to."""
    kind, limits = row[0], row[1] if len(row) > 1 else {}
    if name == "device":
        return device
    entries = kind if isinstance(kind, list) else limits.get("options")
    default = limits.get("default", entries[0] if entries else "")
    wanted = SETTINGS.get(name, default)
    return default if entries and wanted not in entries else wanted


def workflow(
    node_id: str, node_class: Any, device: str, turn: int = 0, kind: str = "photo"
) -> Prompt:
    """The node between sources and consumers; every socket's value comes anew with each `turn`.

    Raises `KeyError` for a socket of a type that nobody has put into `SOURCES` yet.
    """
    made: Prompt = {"photo": node("Turn", value=["photo source", 0], turn=turn)}
    made["photo source"] = node("SourceIMAGE", kind=kind)
    inputs: dict[str, Any] = {}
    for name, row in schema(node_class).items():
        if not is_socket(row[0]):
            inputs[name] = widget(name, row, device)
            continue
        make, output = SOURCES[row[0]]
        made[f"{name} source"] = make(device, node_id)
        if row[0] in ("IMAGE", "MASK"):
            made[f"{name} source"]["inputs"]["kind"] = kind
        made[name] = node("Turn", value=[f"{name} source", output], turn=turn)
        inputs[name] = [name, 0]
    made["node"] = node(node_id, **inputs)
    uses = consumers((*node_class.RETURN_TYPES, "")[0], ["node", 0])
    made |= uses
    if uses:
        made["save"] = node("SaveImage", images=["out", 0], filename_prefix="made")
    return made


def turned(prompt: Prompt, turn: int) -> Prompt:
    """A workflow in which what comes from loaders comes anew with each `turn`."""
    loaders = {name for name, one in prompt.items() if "Loader" in one["class_type"]}
    added: Prompt = {}
    for name, one in prompt.items():
        for key, value in one["inputs"].items():
            if isinstance(value, list) and value[0] in loaders and name not in loaders:
                again = f"turn {value[0]} {value[1]}"
                added[again] = node("Turn", value=value, turn=turn)
                one["inputs"][key] = [again, 0]
    return prompt | added


@functools.cache
def lama() -> dict[str, "torch.Tensor"]:
    """Random weights of the inpainting network."""
    import architecture_table
    from spandrel import MAIN_REGISTRY

    architectures = [one.architecture for one in MAIN_REGISTRY.architectures()]
    return architecture_table.weights(next(one for one in architectures if one.id == "LaMa"))
