"""What edge methods are made of: AnyLine's layers, scribbles, small objects, Manga Line's network.

And their rows of the catalogue.
"""

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edge_networks
import numpy as np
import pytest
import torch
from comfyui_ipex.nodes.preprocess import blur
from comfyui_ipex.nodes.preprocess.controlnet_aux import network_class
from comfyui_ipex.nodes.preprocess.networks import anyline, manga_line
from comfyui_ipex.nodes.preprocess.networks.anyline import large_objects
from comfyui_ipex.nodes.preprocess.networks.soft_edges import scribble
from conftest import REPOSITORY
from edge_networks import METHODS, SHADE, Reference
from scipy import ndimage
from torch import Tensor

FILES = {
    file.name: file
    for method in METHODS.values()
    for network in method.networks.values()
    for file in network.files
}

MANGA_LINE_WEIGHTS = "c5f58862226cdb633d598489ebb57e6228130085618cee08ee1c3a8fbd27d586"
"""SHA-256 of names and shapes of the published network's weights, in order."""

MANGA_LINE_FIGURES = [0.24355476, 1.23730552, 0.13381058, -0.11568964]


def objects(mask: np.ndarray, least: int, connectivity: int) -> np.ndarray:
    """A mask without connected objects of fewer elements than `least`."""
    structure = ndimage.generate_binary_structure(mask.ndim, connectivity)
    labels, _ = ndimage.label(mask, structure)
    large = np.bincount(labels.ravel()) >= least
    large[0] = False
    return large[labels]


@pytest.mark.parametrize("density", [0.1, 0.35, 0.5, 0.65])
@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("least", [1, 2, 12, 40])
def test_objects_with_fewer_pixels_are_removed(
    density: float, connectivity: int, least: int
) -> None:
    masks = np.random.default_rng(2).random((2, 70, 90)) < density
    made = large_objects(torch.from_numpy(masks)[:, None], least, connectivity == 2)
    expected = [objects(mask, least, connectivity) for mask in masks]
    assert np.array_equal(made[:, 0].numpy(), np.stack(expected))


def test_a_winding_object_is_as_large_as_its_pixels() -> None:
    mask = np.zeros((1, 41, 41), bool)
    mask[0, ::2] = True  # one line to and fro, of 861 pixels
    mask[0, 1::4, -1] = mask[0, 3::4, 0] = True
    size = int(mask.sum())
    for least, left in ((size, size), (size + 1, 0)):
        assert large_objects(torch.from_numpy(mask)[:, None], least, False).sum() == left


@pytest.mark.parametrize("shades", [1, 64])
def test_scribbles_are_controlnet_auxs_nms_and_opencvs_blur(shades: int) -> None:
    import cv2

    image = edge_networks.pictures(100, 150)[0].mean(0).numpy() * 255
    edges = np.abs(cv2.Laplacian(cv2.GaussianBlur(image, (0, 0), 1.5), cv2.CV_32F)) * 20
    edges = (edges.clip(0, 255) // shades * shades).astype(np.uint8)
    expected = network_class("controlnet_aux.util:nms")(edges, 127, 3.0)
    expected = cv2.GaussianBlur(expected, (0, 0), 3.0) > 4
    assert 0.01 < expected.mean() < 0.9
    made = scribble(torch.from_numpy(edges / 255 + 1e-6).float()[None, None])
    assert np.array_equal(made[0, 0].numpy() > 0, expected)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 3.0])
def test_blurs_are_opencvs(sigma: float) -> None:
    import cv2

    image = edge_networks.pictures(64, 90)[:1, :1] * 255
    expected = cv2.GaussianBlur(image[0, 0].numpy(), (0, 0), sigma)
    assert np.abs(blur.blurred(image, sigma)[0, 0].numpy() - expected).max() < 1e-3
    dots = image > 180
    whole = cv2.GaussianBlur(dots[0, 0].numpy().astype(np.uint8) * 255, (0, 0), sigma)
    made = blur.blurred_whole(dots.float(), sigma)[0, 0] * 255
    assert np.array_equal(((made + (1 << 15)) / (1 << 16)).floor().numpy(), whole)


def layered(folder: Path, images: Tensor, lines: Tensor, options: Mapping[str, Any]) -> np.ndarray:
    """AnyLine as the best-known pack puts it together, from controlnet_aux's edges."""
    edges = Reference(
        METHODS["TEED"],
        {},
        "controlnet_aux.teed:TEEDdetector",
        {"safe_steps": 2},
        ("MTEED.pth",),
        named=True,
    ).result(folder, images)
    results = []
    for base, top in zip(edges[:, 0].numpy(), lines[:, 0].numpy(), strict=True):
        least, most = options["lineart_lower_bound"], options["lineart_upper_bound"]
        kept = np.where((top >= least) & (top <= most), top, 0)
        colours = np.repeat(kept[..., None].astype(bool), 3, 2)
        size, connectivity = options["object_min_size"], options["object_connectivity"]
        kept = kept * objects(colours, size, connectivity)[..., 0]
        results.append(np.where(kept > 0, 1 - (1 - kept) * (1 - base), base))
    return np.stack(results)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"object_min_size": 100, "object_connectivity": 2, "lineart_lower_bound": 0.1},
        {"lineart_upper_bound": 0.4},
    ],
    ids=["defaults", "large objects", "faint lines"],
)
def test_anyline_is_teed_with_standard_lineart_over_it(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    method, images = METHODS["AnyLine"], edge_networks.pictures(128, 192)
    options = edge_networks.defaults(method, **changed)
    network = edge_networks.loaded(method, options, tmp_path)
    standard = network_class("controlnet_aux.lineart_standard:LineartStandardDetector")()
    lines = np.stack(
        [
            standard(frame, 2.0, 3, detect_resolution=128, output_type="np")[..., 0]
            for frame in edge_networks.bytes_of(images)
        ]
    )
    lines = torch.from_numpy(lines).float()[:, None] / 255
    expected = layered(tmp_path, images, lines, options)
    made = edge_networks.hint(network, method, images, options)[:, 0].numpy()
    # A line's shade on the border between two may be the other one.
    assert (np.abs(made - expected) > SHADE).mean() < 0.001
    assert (np.abs(expected - layered(tmp_path, images, lines * 0, options)) > 0.1).any()


def test_anyline_takes_its_lines_from_another_network(tmp_path: Path) -> None:
    method, images = METHODS["AnyLine"], edge_networks.pictures(64, 128)
    options = edge_networks.defaults(method, merge_with_lineart="lineart_realistic")
    network = edge_networks.loaded(method, options, tmp_path)
    lines = Reference(
        METHODS["Lineart"],
        {},
        "controlnet_aux.lineart:LineartDetector",
        files=("sk_model.pth", "sk_model2.pth"),
    ).result(tmp_path, images)
    made = edge_networks.hint(network, method, images, options)[:, 0].numpy()
    assert np.abs(made - layered(tmp_path, images, lines, options)).max() <= SHADE


def test_a_flat_picture_has_no_standard_lines() -> None:
    lines = anyline.standard_lines(torch.full((2, 3, 64, 64), 0.5))
    assert not lines.any()


def test_manga_line_has_the_weights_of_the_published_network() -> None:
    with torch.device("meta"):
        state = manga_line.MangaLine().state_dict()
    listed = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert hashlib.sha256(listed.encode()).hexdigest() == MANGA_LINE_WEIGHTS


def test_manga_line_computes_what_the_published_network_computes() -> None:
    """The expected figures are those of res_skip in the best-known pack, on the same weights."""
    network = manga_line.MangaLine().eval()
    with torch.inference_mode():
        for value in network.state_dict().values():
            if value.is_floating_point():
                steps = torch.arange(value.numel(), dtype=torch.float64)
                noise = (torch.sin(steps * 12.9898) * 43758.5453).frac().view(value.shape)
                matrix = value.ndim > 1
                value.copy_(noise * 0.8 / value[0].numel() ** 0.5 if matrix else 1 + noise * 0.3)
        ramp = torch.linspace(0, 1, 48 * 64).view(1, 1, 48, 64)
        made = network(torch.cat((ramp, ramp.flip(3), ramp.flip(2)), 1)) * 255
    figures = [made.mean(), made.std(), made[0, 0, 20, 30], made[0, 0, 47, 63]]
    assert [float(figure) for figure in figures] == pytest.approx(MANGA_LINE_FIGURES, rel=1e-3)


@pytest.mark.parametrize("name", FILES)
def test_a_weight_file_is_known_by_size_and_digest(name: str) -> None:
    file = FILES[name]
    assert file.size is not None
    assert 200_000 < file.size < 300_000_000
    assert file.sha256 is not None
    assert len(bytes.fromhex(file.sha256)) == 32
    assert file.revision == "main" or len(bytes.fromhex(file.revision)) == 20
    assert file.licence
    assert file.a1111_folder


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_whole_row(name: str) -> None:
    method = METHODS[name]
    assert (method.name, method.group) == (name, "lines")
    assert method.aliases
    for option in method.options:
        assert option.tooltip
        if option.choices:
            assert option.default in option.choices
        else:
            assert option.least is not None
            assert option.least <= option.default <= option.most
    assert method.network(edge_networks.defaults(method)) is not None
    chosen = [option for option in method.options if option.name == method.network_option]
    assert all(set(option.choices) == set(method.networks) for option in chosen)


def test_the_rows_are_made_without_opencv_or_the_package() -> None:
    program = (
        "import sys, types\n"
        "package = types.ModuleType('comfyui_ipex')\n"
        f"package.__path__ = [{str(REPOSITORY)!r}]\n"
        "sys.modules['comfyui_ipex'] = package\n"
        "from comfyui_ipex.nodes.preprocess.networks import anyline, hed, mlsd, pidinet\n"
        "assert hed.METHODS and anyline.METHODS\n"
        "print([name for name in ('cv2', 'controlnet_aux', 'timm', 'skimage', 'scipy')"
        " if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
