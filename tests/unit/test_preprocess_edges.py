"""Edge and line methods make what controlnet_aux's detectors make of the same weights.

Pictures have sides of multiples of 64 (Anime Lineart's: 256), where the references do not
resize them. What is left of a difference: their results are cut to 8 bits.
"""

import copy
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import edge_networks
import pytest
import torch
from comfyui_ipex.inference.dry_run import cost_of, meta_copy
from comfyui_ipex.inference.weight_files import WeightFileError, casting
from comfyui_ipex.nodes.preprocess.networks import mlsd, pidinet
from edge_networks import METHODS, SCRIBBLES, SHADE, SOFT, STRAIGHT, Reference
from torch import nn

# The scribbles' networks are those of the soft edges.
NAMES = sorted(name for name in METHODS if not name.startswith("Scribble"))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """For checkpoints; not pytest's own folder, which would keep 200 MB of them."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Callable[[str], nn.Module]:
    """Networks of methods, by name, with the options' defaults; each loaded once."""

    @functools.cache
    def network(name: str) -> nn.Module:
        return edge_networks.loaded(METHODS[name], edge_networks.defaults(METHODS[name]), folder)

    return network


@pytest.mark.parametrize("reference", SOFT, ids=str)
def test_shades_are_those_of_the_reference_to_8_bits(reference: Reference, folder: Path) -> None:
    images = edge_networks.pictures(*reference.size)
    expected = reference.result(folder, images)
    assert expected.std() > 0.01, "a flat picture shows nothing"
    network = edge_networks.loaded(reference.method, reference.options, folder)
    made = edge_networks.hint(network, reference.method, images, reference.options)
    assert made.shape == expected.shape
    assert made.dtype == torch.float32
    assert float((made - expected).abs().max()) <= SHADE


@pytest.mark.parametrize("reference", SCRIBBLES, ids=str)
def test_scribbles_are_those_of_the_reference(reference: Reference, folder: Path) -> None:
    """A soft edge within rounding of a whole shade may move a ridge, and its thick line, a bit."""
    images = edge_networks.pictures(*reference.size)
    expected = reference.result(folder, images)
    assert 0.05 < expected.mean() < 0.95
    network = edge_networks.loaded(reference.method, reference.options, folder)
    made = edge_networks.hint(network, reference.method, images, reference.options)
    assert float((made != expected).float().mean()) < 0.005


@pytest.mark.parametrize(("score", "length"), [(0.1, 0.1), (0.98, 9.2)])
def test_straight_lines_are_those_of_the_reference_pixel_for_pixel(
    score: float, length: float, folder: Path
) -> None:
    images = edge_networks.pictures(*STRAIGHT.size)
    settings = {"thr_v": score, "thr_d": length}
    reference = Reference(STRAIGHT.method, {}, STRAIGHT.target, settings, STRAIGHT.files)
    expected = reference.result(folder, images)
    assert 0.001 < expected.mean() < 0.9
    network = edge_networks.loaded(STRAIGHT.method, {}, folder)
    options = {"score_threshold": score, "dist_threshold": length}
    assert torch.equal(edge_networks.hint(network, STRAIGHT.method, images, options), expected)


def test_a_picture_without_straight_lines_is_black(folder: Path) -> None:
    images = edge_networks.pictures(64, 64)
    network = edge_networks.loaded(STRAIGHT.method, {}, folder)
    options = {"score_threshold": 2.0, "dist_threshold": 0.1}
    assert not edge_networks.hint(network, STRAIGHT.method, images, options).any()


def test_lines_that_leave_the_picture_are_cut_at_its_border() -> None:
    found = torch.zeros(7, 1)
    found[:, 0] = torch.tensor([0.9, 3.0, 2.0, -20.0, 0.0, 20.0, 0.5])
    ends = mlsd.segments(found, 0.1, 0.1)
    assert ends.tolist() == [[-34, 4, 46, 5]]
    picture = torch.zeros(8, 16, dtype=torch.uint8)
    mlsd.drawn(ends, picture.numpy())
    assert picture.any(0).all()


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_weights_give_fp32_maps_and_hints(
    name: str, loaded: Callable[[str], nn.Module]
) -> None:
    method, images = METHODS[name], edge_networks.pictures(64, 64)[:1]
    network = copy.deepcopy(loaded(name)).to(torch.bfloat16)
    casting.attach(network)
    maps: list[torch.Tensor] = []
    for one in (loaded(name), network):
        with one.register_forward_hook(lambda module, given, made: maps.append(made)):
            hint = edge_networks.hint(one, method, images, edge_networks.defaults(method))
    expected, made = maps
    assert hint.dtype == made.dtype == torch.float32
    assert float((made - expected).abs().mean()) < 0.05 * float(expected.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_a_hint_does_not_depend_on_the_memory_format_or_on_the_batch(
    name: str, loaded: Callable[[str], nn.Module]
) -> None:
    method, images = METHODS[name], edge_networks.pictures(64, 128)
    options = edge_networks.defaults(method)
    expected = edge_networks.hint(loaded(name), method, images[1:], options)
    before = images.clone()
    last = images.to(memory_format=torch.channels_last)
    made = edge_networks.hint(loaded(name), method, last, options)
    assert made.shape == (2, 1, 64, 128)
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    assert torch.equal(images, before)
    differing = ((made[1:] - expected).abs() > 1e-3).float().mean()
    assert float(differing) < 0.002, "more than what lies on the border of a step"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_network_takes_is_known_without_running_it(
    name: str, loaded: Callable[[str], nn.Module]
) -> None:
    twin = meta_copy(loaded(name))
    small = cost_of(twin, torch.empty(1, 3, 256, 256, device="meta"))
    large = cost_of(twin, torch.empty(2, 3, 256, 512, device="meta"))
    assert small.peak > 256 * 256 * 12
    assert 3 <= large.peak / small.peak <= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_network_is_on_the_cpu_in_fp32_and_ready(
    name: str, loaded: Callable[[str], nn.Module]
) -> None:
    weights = [*loaded(name).parameters(), *loaded(name).buffers()]
    assert {weight.device.type for weight in weights} == {"cpu"}
    assert all(weight.dtype == torch.float32 for weight in weights if weight.is_floating_point())
    assert not any(weight.requires_grad for weight in weights)
    assert not any(module.training for module in loaded(name).modules())


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    edge_networks.write(folder, "7_model.pth")
    before = torch.random.get_rng_state()
    edge_networks.loaded(METHODS["TEED"], {}, folder)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["HED", "PiDiNet", "TEED", "Lineart", "MangaLine", "MLSD"])
def test_weights_of_another_network_are_refused_with_the_files_name(
    name: str, folder: Path
) -> None:
    network = METHODS[name].network(edge_networks.defaults(METHODS[name]))
    assert network is not None
    other = edge_networks.write(folder, "sk_model.pth" if name == "TEED" else "7_model.pth")
    wrong = {file.name: other for file in network.files}
    if name == "Lineart":
        wrong = dict.fromkeys(wrong, edge_networks.write(folder, "ControlNetHED.pth"))
    with pytest.raises(WeightFileError, match="another network"):
        network.load(wrong)


def test_pixel_differences_are_plain_convolutions_after_loading(folder: Path) -> None:
    network = edge_networks.loaded(METHODS["PiDiNet"], {}, folder)
    kinds = {type(module) for module in network.modules() if "Conv2d" in type(module).__name__}
    assert kinds == {torch.nn.Conv2d}
    sizes = [m.kernel_size for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sizes.count((5, 5)) == list(pidinet._layers().values()).count("rd")


def test_real_hed_weights_give_the_edges_of_a_photo(tmp_path: Path) -> None:
    path = edge_networks.real_hed(tmp_path)
    method, images = METHODS["HED"], edge_networks.pictures(128, 192)
    options = {"safe": "disable"}
    network = method.networks[""].load({path.name: path})
    made = edge_networks.hint(network, method, images, options)
    assert float((made - SOFT[0].result(tmp_path, images)).abs().max()) <= SHADE
    gray = images.mean(1)
    slope = (gray[:, 1:, 1:] - gray[:, :-1, 1:]).abs() + (gray[:, 1:, 1:] - gray[:, 1:, :-1]).abs()
    edges = made[:, 0, 1:, 1:] > 0.5
    assert 0.01 < float(edges.float().mean()) < 0.3
    assert slope[edges].mean() > 2 * slope[~edges].mean()
