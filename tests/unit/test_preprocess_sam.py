"""Segment Anything against controlnet_aux's generator of masks, with a network of toy size."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotators import as_bytes, batch, pictures, random_weights
from comfyui_ipex.nodes.preprocess.networks import sam
from comfyui_ipex.nodes.preprocess.networks.sam import SegmentAnything
from torch import nn
from xpu_emulator.profiles import A770

SIDE, WIDE = 64, 32
MANY_POINTS = 8
ALIKE = 0.999


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True)
def _fewer_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam, "_AT_ONCE", 24)
    # Random masks are noise all over the picture: nearly all boxes are the same.
    monkeypatch.setattr(sam, "_MOST_OVERLAP", ALIKE)


def settings(seed: int) -> dict[str, Any]:
    return {"seed": seed, "points_per_side": MANY_POINTS}


def toy() -> nn.Module:
    """The package's network with two heads, one layer and random weights that are sure of much."""
    from controlnet_aux.segment_anything.modeling.image_encoder import ImageEncoderViT
    from controlnet_aux.segment_anything.modeling.mask_decoder import MaskDecoder
    from controlnet_aux.segment_anything.modeling.prompt_encoder import PromptEncoder
    from controlnet_aux.segment_anything.modeling.sam import Sam
    from controlnet_aux.segment_anything.modeling.transformer import TwoWayTransformer

    cells = (SIDE // 16, SIDE // 16)
    network = Sam(
        ImageEncoderViT(
            img_size=SIDE,
            embed_dim=16,
            depth=1,
            num_heads=2,
            out_chans=WIDE,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            global_attn_indexes=(0,),
        ),
        PromptEncoder(WIDE, cells, (SIDE, SIDE), 4),
        MaskDecoder(
            transformer_dim=WIDE,
            transformer=TwoWayTransformer(depth=1, embedding_dim=WIDE, num_heads=2, mlp_dim=32),
            num_multimask_outputs=3,
            iou_head_depth=2,
            iou_head_hidden_dim=16,
        ),
    ).eval()
    network.load_state_dict(random_weights(network.state_dict(), gain=1.5))
    network.mask_decoder.iou_prediction_head.layers[-1].bias.add_(4)
    for layers in network.mask_decoder.output_hypernetworks_mlps:
        layers.layers[-1].weight.mul_(2000)
        layers.layers[-1].bias.mul_(2000)
    return network


def ours(network: nn.Module, images: torch.Tensor) -> list[np.ndarray]:
    """The segments of the first picture."""
    wrapped = SegmentAnything(network)
    seen = sam.normalised(images * 255, sam._MEAN, sam._DEVIATION)
    found = sam.segments(wrapped, wrapped(seen)[:1], (SIDE, SIDE), (SIDE, SIDE), MANY_POINTS)
    return list(found.cpu().numpy())


def test_segments_are_the_packages() -> None:
    from controlnet_aux.segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator

    network, images = toy(), pictures(SIDE, SIDE)
    generator = SamAutomaticMaskGenerator(
        network, points_per_side=MANY_POINTS, points_per_batch=24, box_nms_thresh=ALIKE
    )
    theirs = [found["segmentation"] for found in generator.generate(as_bytes(images[0]))]
    assert len(theirs) > 3
    found = ours(network, images)
    assert sorted(map(bytes, found)) == sorted(map(bytes, theirs))
    areas = [mask.sum() for mask in found]
    assert areas == sorted(areas, reverse=True)


def test_boxes_that_overlap_much_are_dropped_as_torchvision_drops_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchvision.ops import nms

    monkeypatch.setattr(sam, "_MOST_OVERLAP", 0.7)
    source = torch.Generator().manual_seed(4)
    corner = torch.rand(60, 2, generator=source) * 8
    boxes = torch.cat((corner, corner + 20 + 6 * torch.rand(60, 2, generator=source)), 1)
    sure = torch.rand(60, generator=source)
    expected = nms(boxes, sure, 0.7).tolist()
    assert 3 < len(expected) < 50
    assert sam._distinct(boxes.numpy(), sure.numpy()) == expected


def test_boxes_are_the_packages() -> None:
    from controlnet_aux.segment_anything.utils.amg import batched_mask_to_box

    masks = torch.rand(5, 9, 12, generator=torch.Generator().manual_seed(5)) > 0.96
    masks[3] = False
    assert np.array_equal(sam._boxes(masks), batched_mask_to_box(masks).float().numpy())


def test_a_picture_is_its_segments_in_colours_of_the_seed() -> None:
    network, images = toy(), pictures(SIDE, SIDE, 2)
    first, again, other = (
        sam.colour_segments(SegmentAnything(network), batch(images), settings(seed)).pictures
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (2, 3, SIDE, SIDE)
    smallest = ours(network, images)[-1]
    assert len(np.unique(first[0].numpy()[:, smallest], axis=1).T) == 1


def test_pictures_of_other_sizes_are_fitted_into_the_square() -> None:
    hint = sam.colour_segments(SegmentAnything(toy()), batch(pictures(48, 100)), settings(0))
    assert hint.pictures.shape == (1, 3, 48, 100)
    assert hint.pictures.isfinite().all()


def test_nothing_sure_is_a_black_picture() -> None:
    network = toy()
    network.mask_decoder.iou_prediction_head.layers[-1].bias.sub_(9)
    hint = sam.colour_segments(SegmentAnything(network), batch(pictures(SIDE, SIDE)), settings(0))
    assert hint.pictures.max() == 0


def test_segments_are_the_cpus_on_a_card_without_fp64(emulated_xpu: Any) -> None:
    network, images = toy(), pictures(SIDE, SIDE)
    expected = sam.colour_segments(SegmentAnything(network), batch(images), settings(3)).pictures
    emulated_xpu([A770])
    network.to("xpu:0")
    made = sam.colour_segments(
        SegmentAnything(network), batch(images.to("xpu:0")), settings(3)
    ).pictures
    assert made.device.type == "xpu"
    assert ((made.cpu() - expected).abs() > 1e-6).float().mean() < 0.01


def test_nothing_of_the_published_network_stays_behind_when_it_moves(tmp_path: Path) -> None:
    """TinyViT keeps tensors that it computed in plain attributes."""
    path = tmp_path / "mobile_sam.pt"
    torch.save(SegmentAnything(sam.network_class(sam._SAM)()).network.state_dict(), path)
    network = sam.load({path.name: path}).to("meta")
    behind = [
        name
        for part in network.modules()
        for name, value in vars(part).items()
        if isinstance(value, torch.Tensor) and not value.is_meta
    ]
    assert not behind


def test_the_published_network_is_built_and_takes_its_own_names() -> None:
    network = SegmentAnything(sam.network_class(sam._SAM)())
    assert network.side == 1024
    assert "network.image_encoder.patch_embed.seq.0.c.weight" in network.state_dict()
