"""From a preprocessor and pictures to hints: load, plan, run."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...inference import precision, stream
from ...inference.budget import FREE_SHARE, Budget, Limits
from ...inference.cache import NETWORKS
from ...inference.dry_run import Cost, cost_of
from ...inference.facts import Memo
from ...inference.network import Network, NetworkTraits, called_parts, managed_network
from ...inference.precision import Support
from ...inference.stream import TensorSink
from ...inference.transfer import check_room, new_result
from ...xpu_runtime import devices
from ...xpu_runtime.log import LOGGER
from ...xpu_runtime.placement.location import Handle, Location
from .geometry import Geometry, geometry
from .method import Batch, Method, NetworkSpec, Options, WeightFile
from .picture_task import HintCall, PictureTask, checking_layers, compute_hint

Find = Callable[[WeightFile], Path]
"""Where a file lies; raises if it is nowhere."""

MOST_PIXELS = 1 << 22
"""Of a chunk: 16 pictures of 512x512 keep a large card busy, and are little to wait for."""

MOST_PIXELS_ON_CPU = 1 << 20
"""Without a network: enough to share what is computed once, and few enough for its caches."""

_GOOD_CHUNK = 4
"""Pictures at once for which other models are asked to leave."""

_PLAIN_PLANES = 24
"""fp32 planes of the input that a method without weights takes at least."""

_PLAIN_COSTS: "Memo[ChunkCosts | None]" = Memo(256)
"""Of methods without weights: a few numbers for each size of picture and each option."""

_NO_DRY_RUN = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError)
"""What a dry run may stop with: tensors without numbers cannot be looked at."""


class MaskError(ValueError):
    """A mask that is missing or does not go with the pictures."""


@dataclass(frozen=True)
class PreprocessorSpec:
    """A method on a device of one process: all that another process needs to make the same."""

    method: Method
    device: torch.device
    precision: str
    find: Find
    """Where its weight files lie; asked only for files that are not loaded."""


@dataclass(frozen=True)
class Preprocessor:
    """A method at a location; what PREPROCESSOR sockets carry."""

    method: Method
    location: Location
    precision: str
    find: Find
    network: "Handle | None" = None
    """That of the default options, held so that it stays loaded."""

    @property
    def spec(self) -> PreprocessorSpec:
        """For the process at the location."""
        return PreprocessorSpec(self.method, self.location.device, self.precision, self.find)


@dataclass(frozen=True)
class HintSize:
    resolution: int = 0
    """Of the short side, in pixels; 0 is the picture's own."""
    match_input: bool = False
    """The result is brought back to the picture's size."""


@dataclass(frozen=True)
class Hints:
    pictures: Tensor
    """fp32 [B, H, W, 3] on the CPU, 0 to 1."""
    poses: list[dict[str, Any]] = field(default_factory=list)
    """POSE_KEYPOINT's list; empty where there are no poses."""


def default_options(method: Method) -> dict[str, Any]:
    """The method's options as they are if nobody sets them."""
    return {option.name: option.default for option in method.options}


def hold_network(preprocessor: Preprocessor) -> Preprocessor:
    """The same, with the network of its default options loaded and held at its location.

    Raises what finding and loading raise.
    """
    location = preprocessor.location
    handle = location.hold(open_network, preprocessor.spec)
    location.call(_use, handle)
    return replace(preprocessor, network=handle)


def open_network(spec: PreprocessorSpec) -> Network | None:
    """At the location: the network of the method's default options; None if it has none."""
    return network_of(spec, default_options(spec.method))


def _use(network: Network | None) -> None:
    """A worker makes what it holds before it is first used."""


def network_of(spec: PreprocessorSpec, options: Options) -> Network | None:
    """The network for these options; None for methods without one.

    It is loaded once for the same weights, device and precision. Raises what finding the files
    and the network's own loader raise.
    """
    method = spec.method
    weights = method.network(options)
    if weights is None:
        return None
    paths = {file.name: spec.find(file) for file in weights.files}

    def load() -> Network:
        traits = _traits_of(method, weights, dict(options))
        module = weights.load(paths)
        found = managed_network(module, traits, spec.device, spec.precision)
        LOGGER.info(
            "Preprocessing: %s: weights were read (%.0f MiB)", method.title, found.size / 2**20
        )
        return found

    network = NETWORKS.find(
        weights.load,
        list(paths.values()),
        spec.device,
        spec.precision,
        load,
        lambda one: one.digest,
    )
    NETWORKS.hold(network)
    return network


def _traits_of(method: Method, weights: NetworkSpec, options: Options) -> NetworkTraits:
    """The hint itself would not do as the answer to a test picture.

    It may be black, or cut to a few shades that the least difference moves by one.
    """
    size = geometry(*precision.CHECK_SIZE, 0, method.multiple_of).padded
    picture = precision.test_picture(3, size)

    def answer(module: nn.Module) -> list[Tensor]:
        weight = next(iter((*module.parameters(), *module.buffers())), None)
        given = picture if weight is None else picture.to(weight.device)
        with recorded_outputs(module) as said:
            method.make_hint(module, Batch(given, 0, given[:, :1]), options)
        return said

    support = Support(weights.half, weights.half)
    title = f"Preprocessing: {method.title}"
    return NetworkTraits(title, support, answer, relative=True, layout=weights.layout)


@contextlib.contextmanager
def recorded_outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """The float tensors that the network's calls give back, in fp32, as they come."""
    outputs: list[Tensor] = []

    def record(part: nn.Module, inputs: Any, output: Any) -> None:
        outputs.extend(_floats_in(output))

    hooks = [part.register_forward_hook(record) for part in called_parts(module)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _floats_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.detach().float()] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [one for part in value for one in _floats_in(part)]
    return []


def apply(
    preprocessor: Preprocessor,
    images: Tensor,
    size: HintSize,
    options: Options,
    masks: Tensor | None = None,
) -> Hints:
    """`make_hints`, wherever the preprocessor is."""
    found: Hints = preprocessor.location.call(
        make_hints, preprocessor.spec, preprocessor.network, images, size, dict(options), masks
    )
    return found


def make_hints(
    spec: PreprocessorSpec,
    held: Network | None,
    images: Tensor,
    size: HintSize,
    options: Options,
    masks: Tensor | None = None,
) -> Hints:
    """Hints for `images` [B, H, W, C] on the CPU; `masks` are [B or 1, H, W].

    `held`: the network of the default options. Raises `MaskError`, what finding, loading and the
    method raise, `torch.OutOfMemoryError`, and what an interrupt raises; the network is then off
    its device.
    """
    method, device = spec.method, spec.device
    images = images.to("cpu", torch.float32)
    masks = _check_masks(method, images, masks)
    network = held if _is_own(held, method, options) else network_of(spec, options)
    resolution = 0 if method.keeps_size else size.resolution
    height, width = images.shape[1:3]
    sizes = geometry(height, width, resolution, method.multiple_of, size.match_input)
    # A thin picture has a very long side at the resolution that was asked for.
    check_room(2, *sizes.padded, 3)
    if network is not None:
        network.settle()
    call = HintCall(method, None if network is None else network.module, options, sizes, device)
    with torch.inference_mode():
        costs = costs_of(call, network, images, masks)
        needed = 0
        if costs is not None:
            needed = costs.of_chunk(min(_GOOD_CHUNK, len(images)), 0).peak
        if network is None:
            Budget(device).make_room(needed)
            return _run_task(call, costs, images, masks, None)
        with network.on_device(int(needed / FREE_SHARE)):
            return _run_task(call, costs, images, masks, network)


def _is_own(held: Network | None, method: Method, options: Options) -> bool:
    """Whether `held` was optimised for its owner alone, and is what these options take."""
    if held is None or held.shared:
        return False
    return method.network(options) == method.network(default_options(method))


def _check_masks(method: Method, images: Tensor, masks: Tensor | None) -> Tensor | None:
    if not method.takes_mask:
        return None
    if masks is None:
        raise MaskError(f"{method.title} needs a mask. Connect one to the node's `mask`.")
    masks = masks.to("cpu", torch.float32).reshape(-1, 1, *masks.shape[-2:])
    if len(masks) not in (1, len(images)):
        raise MaskError(
            f"{len(masks)} masks do not go with {len(images)} pictures: use one, or one a picture."
        )
    return masks


@dataclass(frozen=True)
class ChunkCosts:
    """What calls take, by the number of pictures: it grows evenly."""

    one: Cost
    two: Cost

    def of_chunk(self, pictures: int, result_pixels: int) -> Cost:
        """Of a call with so many pictures, beside the last result, which is on its way."""
        more = pictures - 1
        peak = self.one.peak + more * max(0, self.two.peak - self.one.peak)
        largest = self.one.largest + more * max(0, self.two.largest - self.one.largest)
        return Cost(peak + pictures * result_pixels * 12, largest)


def costs_of(
    call: HintCall, network: Network | None, images: Tensor, masks: Tensor | None
) -> ChunkCosts | None:
    """Dry runs with one and two pictures; None on the CPU, or where a network cannot run dry."""
    if call.device.type == devices.CPU or not len(images):
        return None
    if network is not None and network.meta is None:
        return None
    meta, costs = (None, _PLAIN_COSTS) if network is None else (network.meta, network.facts)
    mask = None if masks is None else masks.shape[-2:]
    options = tuple(sorted(call.options.items()))
    key = (call.method.name, call.sizes, options, images.shape[-1], mask)
    return costs.find(key, lambda: dry_costs(call, meta, images, masks))


def dry_costs(
    call: HintCall, meta: nn.Module | None, images: Tensor, masks: Tensor | None
) -> ChunkCosts | None:
    """What one and two pictures take; None if the method cannot run without numbers."""
    dry = replace(call, module=meta, device=torch.device("meta"))

    def cost(frames: int) -> Cost:
        pixels = torch.empty(frames, *images.shape[1:], device="meta")
        mask = None if masks is None else torch.empty(frames, *masks.shape[1:], device="meta")
        return cost_of(lambda image: _call_until_numbers(dry, image, mask), pixels)

    try:
        one, two = cost(1), cost(2)
    except _NO_DRY_RUN as error:
        LOGGER.debug("Preprocessing: no dry run of %s: %s", call.method.title, error)
        return None
    least = _PLAIN_PLANES * 4 * call.sizes.padded[0] * call.sizes.padded[1]
    return ChunkCosts(*(Cost(max(c.peak, n * least), c.largest) for n, c in ((1, one), (2, two))))


def _call_until_numbers(dry: HintCall, pixels: Tensor, masks: Tensor | None) -> None:
    """One call, to its end or to where the method looks at numbers, after the network."""
    called: list[bool] = []
    parts = [] if dry.module is None else called_parts(dry.module)
    hooks = [part.register_forward_hook(lambda *_: called.append(True)) for part in parts]
    try:
        compute_hint(dry, pixels, masks)
    except _NO_DRY_RUN:
        if parts and not called:
            raise
    finally:
        for hook in hooks:
            hook.remove()


def chunk_of(frames: int, costs: ChunkCosts | None, limits: Limits, sizes: Geometry) -> int:
    """How many pictures go at once: what fits, evenly shared out, 1 at least."""
    pixels = max(side[0] * side[1] for side in (sizes.given, sizes.padded, sizes.result))
    most = MOST_PIXELS_ON_CPU if limits.small else MOST_PIXELS
    chunk = max(1, min(frames, most // pixels))
    result = sizes.result[0] * sizes.result[1]
    while chunk > 1 and costs is not None and not limits.fit(costs.of_chunk(chunk, result)):
        chunk -= 1
    return -(-frames // -(-frames // chunk)) if frames else 1


def _run_task(
    call: HintCall,
    costs: ChunkCosts | None,
    images: Tensor,
    masks: Tensor | None,
    network: Network | None,
) -> Hints:
    budget = Budget(call.device) if network is None else network.budget
    limits = budget.limits()
    most = chunk = chunk_of(len(images), costs, limits, call.sizes)
    measure = None
    if network is not None and call.device.type == devices.CPU:
        chunk = 1  # batches gain nothing there, and take memory
    elif network is not None and costs is None:
        chunk = 1
        measure = _measure_first(call.device, limits, most)
    LOGGER.info(
        "Preprocessing with %s on %s: %d picture(s) of %s, %d at once",
        call.method.title,
        call.device,
        len(images),
        "{1}x{0}".format(*call.sizes.padded),
        chunk,
    )
    ui = stream.node_ui()
    task = PictureTask(call, chunk, images, masks, ui.check_interrupted, measure)
    sink = TensorSink(new_result(len(images), *call.sizes.result, 3))
    with checking_layers(call, ui.check_interrupted):
        stream.run(task, sink, budget, ui)
    return Hints(sink.result, task.poses)


def _measure_first(device: torch.device, limits: Limits, most: int) -> Callable[[int], int]:
    """A task's `measure`: how many pictures fit by what the first ones took."""
    backend = getattr(torch, device.type)
    backend.reset_peak_memory_stats(device)
    before = backend.memory_allocated(device)

    def measure(pictures: int) -> int:
        took = max(1, backend.max_memory_allocated(device) - before) // pictures
        return max(1, min(most, limits.free // max(1, took)))

    return measure
