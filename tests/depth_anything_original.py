"""Depth Anything V2 as its authors compute it: a formula over their own checkpoint's names.

After DINOv2's vision_transformer.py and Depth-Anything-V2's dpt.py, without classes.
"""

import cv2
import numpy as np
import torch
from comfyui_ipex.nodes.preprocess.networks.depth_anything import DepthAnythingSize
from torch import Tensor
from torch.nn import functional

PATCH = 14


def shapes(size: DepthAnythingSize) -> dict[str, Tensor]:
    """What a checkpoint of this size holds, on the meta device."""
    wide, found = size.hidden, {}
    inner = (int(4 * wide * 2 / 3) + 7) // 8 * 8

    def add(name: str, *shape: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = torch.empty(shape, device="meta")
        if bias:
            found[f"{name}.bias"] = torch.empty(shape[0], device="meta")

    for name, shape in {
        "pretrained.cls_token": (1, 1, wide),
        "pretrained.pos_embed": (1, 1 + 37 * 37, wide),
        "pretrained.mask_token": (1, wide),
    }.items():
        found[name] = torch.empty(shape, device="meta")
    add("pretrained.patch_embed.proj", wide, 3, PATCH, PATCH)
    add("pretrained.norm", wide)
    for layer in range(size.layers):
        block = f"pretrained.blocks.{layer}"
        add(f"{block}.norm1", wide)
        add(f"{block}.norm2", wide)
        add(f"{block}.attn.qkv", 3 * wide, wide)
        add(f"{block}.attn.proj", wide, wide)
        found[f"{block}.ls1.gamma"] = found[f"{block}.ls2.gamma"] = torch.empty(wide, device="meta")
        first, last = ("w12", "w3") if size.gated else ("fc1", "fc2")
        add(f"{block}.mlp.{first}", 2 * inner if size.gated else 4 * wide, wide)
        add(f"{block}.mlp.{last}", wide, inner if size.gated else 4 * wide)
    for index, neck in enumerate(size.necks):
        add(f"depth_head.projects.{index}", neck, wide, 1, 1)
        add(f"depth_head.scratch.layer{index + 1}_rn", size.fusion, neck, 3, 3, bias=False)
        refine = f"depth_head.scratch.refinenet{index + 1}"
        add(f"{refine}.out_conv", size.fusion, size.fusion, 1, 1)
        for unit in (1, 2):
            add(f"{refine}.resConfUnit{unit}.conv1", size.fusion, size.fusion, 3, 3)
            add(f"{refine}.resConfUnit{unit}.conv2", size.fusion, size.fusion, 3, 3)
    for index, side in ((0, 4), (1, 2), (3, 3)):
        neck = size.necks[index]
        add(f"depth_head.resize_layers.{index}", neck, neck, side, side)
    add("depth_head.scratch.output_conv1", size.fusion // 2, size.fusion, 3, 3)
    add("depth_head.scratch.output_conv2.0", 32, size.fusion // 2, 3, 3)
    add("depth_head.scratch.output_conv2.2", 1, 32, 1, 1)
    return found


def depths(state: dict[str, Tensor], size: DepthAnythingSize, pictures: Tensor) -> Tensor:
    """Inverse depths [N, H, W] of normalised pictures."""
    rows, columns = pictures.shape[2] // PATCH, pictures.shape[3] // PATCH
    features = _features(state, size, pictures, rows, columns)
    head = {k.removeprefix("depth_head."): v for k, v in state.items() if "depth_head" in k}

    def conv(name: str, x: Tensor, **how: int) -> Tensor:
        return functional.conv2d(x, head[f"{name}.weight"], head.get(f"{name}.bias"), **how)

    maps = []
    for index, feature in enumerate(features):
        grid = feature[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))
        grid = conv(f"projects.{index}", grid)
        resize = f"resize_layers.{index}"
        if index < 2:
            weight, bias = head[f"{resize}.weight"], head[f"{resize}.bias"]
            grid = functional.conv_transpose2d(grid, weight, bias, stride=4 - 2 * index)
        elif index == 3:
            grid = conv(resize, grid, stride=2, padding=1)
        maps.append(conv(f"scratch.layer{index + 1}_rn", grid, padding=1))

    def unit(name: str, x: Tensor) -> Tensor:
        inner = conv(f"{name}.conv1", functional.relu(x), padding=1)
        return conv(f"{name}.conv2", functional.relu(inner), padding=1) + x

    path = None
    for index in (3, 2, 1, 0):
        refine = f"scratch.refinenet{index + 1}"
        path = maps[index] if path is None else path + unit(f"{refine}.resConfUnit1", maps[index])
        path = unit(f"{refine}.resConfUnit2", path)
        target = maps[index - 1].shape[2:] if index else [2 * s for s in path.shape[2:]]
        path = functional.interpolate(path, tuple(target), mode="bilinear", align_corners=True)
        path = conv(f"{refine}.out_conv", path)
    path = conv("scratch.output_conv1", path, padding=1)
    full = (rows * PATCH, columns * PATCH)
    path = functional.interpolate(path, full, mode="bilinear", align_corners=True)
    path = functional.relu(conv("scratch.output_conv2.0", path, padding=1))
    return functional.relu(conv("scratch.output_conv2.2", path))[:, 0]


def _features(
    state: dict[str, Tensor], size: DepthAnythingSize, pictures: Tensor, rows: int, columns: int
) -> list[Tensor]:
    body = {k.removeprefix("pretrained."): v for k, v in state.items() if "pretrained" in k}

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, body[f"{name}.weight"], body[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        weight, bias = body[f"{name}.weight"], body[f"{name}.bias"]
        return functional.layer_norm(x, (size.hidden,), weight, bias, 1e-6)

    x = functional.conv2d(
        pictures, body["patch_embed.proj.weight"], body["patch_embed.proj.bias"], stride=PATCH
    )
    x = torch.cat((body["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)), 1)
    grid = body["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (37, 37))
    if (rows, columns) != (37, 37):
        factors = ((rows + 0.1) / 37, (columns + 0.1) / 37)
        grid = functional.interpolate(grid, scale_factor=factors, mode="bicubic")
    x = x + torch.cat((body["pos_embed"][:, :1], grid.flatten(2).transpose(1, 2)), 1)
    taken = []
    for layer in range(size.layers):
        block = f"blocks.{layer}"
        qkv = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
        query, key, value = qkv.unflatten(2, (3, -1, 64)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) / 8).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        x = x + body[f"{block}.ls1.gamma"] * linear(f"{block}.attn.proj", mixed)
        inner = norm(f"{block}.norm2", x)
        if size.gated:
            gate, up = linear(f"{block}.mlp.w12", inner).chunk(2, -1)
            inner = linear(f"{block}.mlp.w3", functional.silu(gate) * up)
        else:
            inner = linear(f"{block}.mlp.fc2", functional.gelu(linear(f"{block}.mlp.fc1", inner)))
        x = x + body[f"{block}.ls2.gamma"] * inner
        if layer + 1 in size.taken:
            taken.append(norm("norm", x))
    return taken


def picture(state: dict[str, Tensor], size: DepthAnythingSize, image: np.ndarray) -> np.ndarray:
    """The depth picture [H, W], 0 to 1, of a uint8 picture, as `infer_image` makes it."""
    height, width = image.shape[:2]
    scale = max(518 / height, 518 / width)
    target = [max(518, int(np.round(scale * side / PATCH) * PATCH)) for side in (width, height)]
    resized = cv2.resize(image / 255.0, target, interpolation=cv2.INTER_CUBIC)
    normal = (resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = depths(state, size, torch.from_numpy(normal).float().movedim(-1, 0)[None])
    found = functional.interpolate(
        found[:, None], (height, width), mode="bilinear", align_corners=True
    )[0, 0].numpy()
    return (found - found.min()) / (found.max() - found.min())
