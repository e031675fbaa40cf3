"""Workflows whose parts are placed on a worker, and the servers that have one."""

import json
from pathlib import Path
from typing import Any

import hosts
import numpy as np
import servers
import websocket
from servers import ComfyServer, Configuration

WORKER = "xpu:0@worker"


def with_a_worker(version: str) -> Configuration:
    """A host on the CPU, in fp32, whose worker has one emulated A770. Two others cannot start."""
    python = hosts.installed(version).python
    emulated = f"xpu:{python} -m xpu_emulator --device a770 --"
    others = f"nowhere=cpu:/nowhere/python, cardless=xpu:{python}"
    settings = (("COMFYUI_IPEX_WORKERS", f"{emulated}, {others}"),)
    return Configuration(version, ("--cpu", "--force-fp32"), settings=settings)


def report(server: ComfyServer) -> dict[str, Any]:
    """What /ipex/report says of the one worker."""
    told = server.client.get_json("/ipex/report", format="json")
    assert len(told["workers"]) == 1
    return dict(told["workers"][0])


def placed(*nodes: str) -> dict[str, Any]:
    """The workflow whose components can all be placed, with these nodes' on the worker."""
    workflow = servers.workflow("placed")
    for node in nodes:
        workflow[node]["inputs"]["device"] = WORKER
    return workflow


def difference(one: servers.Run, other: servers.Run) -> int:
    """The largest, in steps of 8 bits."""
    assert [image.shape for image in one.images] == [image.shape for image in other.images]
    pairs = zip(one.images, other.images, strict=True)
    return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs)


def text_lora(folder: Path) -> None:
    """A LoRA on the first layers of CLIP-L, strong enough to be seen."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(5)
    weights = {}
    for layer in range(2):
        for part in ("q_proj", "v_proj"):
            name = f"text_encoders.clip_l.transformer.text_model.encoder.layers.{layer}.self_attn"
            weights[f"{name}.{part}.lora_down.weight"] = torch.randn(4, 768, generator=generator)
            weights[f"{name}.{part}.lora_up.weight"] = torch.randn(768, 4, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "text_lora.safetensors")


def with_text_lora(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow with a LoRA on its text encoder, after Select Device (CLIP)."""
    lora = {"clip": ["5", 0], "model": ["4", 0], "lora_name": "text_lora.safetensors"}
    strengths = {"strength_model": 0.0, "strength_clip": 0.5}
    workflow["30"] = {"class_type": "LoraLoader", "inputs": {**lora, **strengths}}
    skip = {"class_type": "CLIPSetLastLayer"}
    workflow["31"] = {**skip, "inputs": {"clip": ["30", 1], "stop_at_clip_layer": -2}}
    for node in ("11", "12"):
        workflow[node]["inputs"]["clip"] = ["31", 0]
    return workflow


def several(*nodes: str, steps: int = 2) -> dict[str, Any]:
    """The workflow for three pictures, each with a hint of its own."""
    workflow = placed(*nodes)
    workflow["16"]["inputs"]["steps"] = steps
    workflow["20"] = {"class_type": "ImageInvert", "inputs": {"image": ["13", 0]}}
    for name, one, two in (("21", "13", "20"), ("22", "21", "13")):
        inputs = {"image1": [one, 0], "image2": [two, 0]}
        workflow[name] = {"class_type": "ImageBatch", "inputs": inputs}
    workflow["14"]["inputs"]["pixels"] = ["22", 0]
    workflow["15"]["inputs"]["image"] = ["22", 0]
    return workflow


def doubled(workflow: dict[str, Any]) -> dict[str, Any]:
    """A workflow of `several` or `pipelined` with each picture twice: six."""
    twice = {"image1": ["22", 0], "image2": ["22", 0]}
    workflow["23"] = {"class_type": "ImageBatch", "inputs": twice}
    workflow["14"]["inputs"]["pixels"] = ["23", 0]
    workflow["15"]["inputs"]["image"] = ["23", 0]
    return workflow


def pipelined(*nodes: str, steps: int = 2, at_once: int = 1) -> dict[str, Any]:
    """The workflow of `several` with Pipeline in place of KSampler, VAE Decode and the upscaler."""
    workflow = several(*nodes, steps=steps)
    own = {"vae": ["6", 0], "upscale_model": ["10", 0], "at_once": at_once}
    workflow["40"] = {"class_type": "IpexPipeline", "inputs": workflow["16"]["inputs"] | own}
    workflow["19"]["inputs"]["images"] = ["40", 0]
    return {name: node for name, node in workflow.items() if name not in ("16", "17", "18")}


def enlarging(seed: int) -> dict[str, Any]:
    """A workflow that keeps the worker busy for a while, and is new for each `seed`."""
    whole = placed("10")
    scaled = {"image": ["13", 0], "upscale_method": "nearest-exact", "crop": "disabled"}
    size = {"width": 512, "height": 384 + 8 * seed}
    return {key: whole[key] for key in ("9", "10", "13")} | {
        "50": {"class_type": "ImageScale", "inputs": {**scaled, **size}},
        "18": {
            "class_type": "IpexUpscaleImage",
            "inputs": {"upscale_model": ["10", 0], "image": ["50", 0], "tile": 64, "batch": 1},
        },
        "19": {"class_type": "PreviewImage", "inputs": {"images": ["18", 0]}},
    }


def queued_until_progress(server: ComfyServer, workflow: dict[str, Any], share: float = 0.0) -> str:
    """The id of a prompt that was queued, when it has told of that much progress."""
    address = server.client.address.replace("http:", "ws:")
    socket = websocket.create_connection(f"{address}/ws?clientId=progress", timeout=60)
    try:
        prompt = server.client.queue(workflow, "progress")
        while True:
            message = socket.recv()
            told = {} if isinstance(message, bytes) else json.loads(message)
            if (
                told.get("type") == "progress"
                and told["data"]["value"] >= share * told["data"]["max"]
            ):
                return prompt
    finally:
        socket.close()
