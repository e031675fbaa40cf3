"""From a preprocessor and pictures to hints: load, decide, plan, run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...inference.dry_run import Cost, cost_of
from ...inference.limits import FREE_SHARE, Limits, limits_of
from ...inference.surroundings import of_this_node
from ...inference.transfer import check_room
from ...xpu_runtime import devices, host
from ...xpu_runtime.log import LOGGER
from ...xpu_runtime.managed_model import resident
from ...xpu_runtime.placement import There
from ...xpu_runtime.workers import Resident
from . import elsewhere, loaded
from .geometry import Geometry, geometry
from .loaded import Find, Loaded
from .method import Method
from .running import Job, Result, Run, step

MOST_PIXELS = 1 << 22
"""Of a chunk: 16 pictures of 512x512 keep a large card busy, and are little to wait for."""

MOST_PIXELS_ON_CPU = 1 << 20
"""Without a network: enough to share what is computed once, and few enough for its caches."""

_GOOD_CHUNK = 4
"""Pictures at once for which other models are asked to leave."""

_PLAIN_PLANES = 24
"""fp32 planes of the input that a method without weights takes at least."""

_PLAIN_COSTS: "dict[Any, Costs | None]" = {}
"""Of methods without weights: a few numbers for each size of picture that was seen."""

_MOST_COSTS = 256
"""Of one network, or of all methods without: each new seed is another option."""

_UNKNOWN = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError)
"""What a dry run may stop with: tensors without numbers cannot be looked at."""


class MaskError(ValueError):
    """A mask that is missing or does not go with the pictures."""


@dataclass(frozen=True)
class Preprocessor:
    """A method on a device; what PREPROCESSOR sockets carry."""

    method: Method
    device: torch.device | There
    precision: str
    find: Find
    """Where its weight files lie; asked only for files that are not loaded."""
    network: Loaded | Resident | None = None
    """That of the default options, held here so that it stays loaded; a worker holds its own."""
    own: bool = False
    """Whether that one is used, and not the one that all nodes share: it was optimised."""


@dataclass(frozen=True)
class Wishes:
    """What the user asks of the sizes."""

    resolution: int = 0
    """Of the short side, in pixels; 0 is the picture's own."""
    match_input: bool = False
    """The result is brought back to the picture's size."""


def defaults(method: Method) -> dict[str, Any]:
    """The method's options as they are if nobody sets them."""
    return {option.name: option.default for option in method.options}


def holding(preprocessor: Preprocessor) -> Preprocessor:
    """The same, with the network of its default options loaded and held."""
    known = preprocessor
    if isinstance(known.device, There):
        resident = elsewhere.held(known.method, known.device, known.precision, known.find)
        return replace(known, network=resident)
    return replace(known, network=_network(known, defaults(known.method)))


def _network(preprocessor: Preprocessor, options: Mapping[str, Any]) -> Loaded | None:
    mine = preprocessor.network
    wanted = preprocessor.method.network(options)
    if preprocessor.own and mine is not None and wanted == mine.network:
        return mine
    return loaded.network_of(
        preprocessor.method, options, preprocessor.device, preprocessor.precision, preprocessor.find
    )


def apply(
    preprocessor: Preprocessor,
    images: Tensor,
    wishes: Wishes,
    options: Mapping[str, Any],
    masks: Tensor | None = None,
) -> Result:
    """Hints for `images` [B, H, W, C] on the CPU; `masks` are [B or 1, H, W].

    Raises `MaskError`, what finding, loading and the method raise, and what an interrupt
    raises; the network is then off its device.
    """
    method, device = preprocessor.method, preprocessor.device
    if isinstance(device, There):
        return _applied_there(preprocessor, device, (images, wishes, dict(options), masks))
    images = images.to("cpu", torch.float32)
    masks = _checked_masks(method, images, masks)
    known = _network(preprocessor, options)
    resolution = 0 if method.keeps_size else wishes.resolution
    sizes = geometry(*images.shape[1:3], resolution, method.multiple_of, wishes.match_input)
    # A thin picture has a very long side at the resolution that was asked for.
    check_room(2, *sizes.padded, 3)
    if known is not None:
        loaded.settle(known, method, options)
    module = None if known is None else known.module
    job = Job(method, module, options, sizes, device)
    with torch.inference_mode():
        costs = costs_of(job, known, images, masks)
        needed = 0
        if costs is not None:
            good = cost_of_chunk(costs, min(_GOOD_CHUNK, len(images)), 0)
            needed = int(good.peak / FREE_SHARE)
        if known is None:
            loaded.make_room(device, needed)
            return _run(job, costs, images, masks, None)
        with resident(known.patcher, needed):
            return _run(job, costs, images, masks, known)


def _applied_there(known: Preprocessor, place: There, arguments: tuple[Any, ...]) -> Result:
    if isinstance(known.network, Resident):
        answer = place.worker.call(apply, known.network, *arguments)
    else:
        answer = elsewhere.applied(known.method, place, known.precision, known.find, *arguments)
    assert isinstance(answer, Result)
    return answer


def _checked_masks(method: Method, images: Tensor, masks: Tensor | None) -> Tensor | None:
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
class Costs:
    """What calls take, by the number of pictures: it grows evenly."""

    one: Cost
    two: Cost


def costs_of(job: Job, known: Loaded | None, images: Tensor, masks: Tensor | None) -> Costs | None:
    """Dry runs with one and two pictures; None on the CPU, or where a network cannot run dry."""
    if job.device.type == devices.CPU or not len(images):
        return None
    if known is not None and known.twin is None:
        return None
    twin, costs = (None, _PLAIN_COSTS) if known is None else (known.twin, known.costs)
    mask = None if masks is None else masks.shape[-2:]
    options = tuple(sorted(job.options.items()))
    key = (job.method.name, job.sizes, options, images.shape[-1], mask)
    if key not in costs:
        if len(costs) >= _MOST_COSTS:
            costs.clear()
        costs[key] = dry_costs(job, twin, images, masks)
    return costs[key]


def dry_costs(
    job: Job, twin: nn.Module | None, images: Tensor, masks: Tensor | None
) -> Costs | None:
    dry = Job(job.method, twin, job.options, job.sizes, torch.device("meta"))

    def cost(frames: int) -> Cost:
        pixels = torch.empty(frames, *images.shape[1:], device="meta")
        mask = None if masks is None else torch.empty(frames, *masks.shape[1:], device="meta")
        return cost_of(lambda image: _until_it_looks(dry, image, mask), pixels)

    try:
        one, two = cost(1), cost(2)
    except _UNKNOWN as error:
        LOGGER.debug("Preprocessing: no dry run of %s: %s", job.method.title, error)
        return None
    least = _PLAIN_PLANES * 4 * job.sizes.padded[0] * job.sizes.padded[1]
    return Costs(*(Cost(max(c.peak, n * least), c.largest) for n, c in ((1, one), (2, two))))


def _until_it_looks(dry: Job, pixels: Tensor, masks: Tensor | None) -> None:
    """One call, to its end or to where the method looks at numbers, after the network."""
    called: list[bool] = []
    parts = [] if dry.network is None else loaded.callables(dry.network)
    hooks = [part.register_forward_hook(lambda *_: called.append(True)) for part in parts]
    try:
        step(dry, pixels, masks)
    except _UNKNOWN:
        if parts and not called:
            raise
    finally:
        for hook in hooks:
            hook.remove()


def cost_of_chunk(costs: Costs, frames: int, result_pixels: int) -> Cost:
    """What a call with so many pictures takes, beside the last result, which is on its way."""
    more = frames - 1
    peak = costs.one.peak + more * max(0, costs.two.peak - costs.one.peak)
    largest = costs.one.largest + more * max(0, costs.two.largest - costs.one.largest)
    return Cost(peak + frames * result_pixels * 12, largest)


def chunk_of(frames: int, costs: Costs | None, limits: Limits, sizes: Geometry) -> int:
    """How many pictures go at once: what fits, evenly shared out, 1 at least."""
    pixels = max(side[0] * side[1] for side in (sizes.given, sizes.padded, sizes.result))
    most = MOST_PIXELS_ON_CPU if limits.small else MOST_PIXELS
    chunk = max(1, min(frames, most // pixels))
    result = sizes.result[0] * sizes.result[1]
    while chunk > 1 and costs is not None and not limits.fit(cost_of_chunk(costs, chunk, result)):
        chunk -= 1
    return -(-frames // -(-frames // chunk)) if frames else 1


def _run(
    job: Job, costs: Costs | None, images: Tensor, masks: Tensor | None, known: Loaded | None
) -> Result:
    limits = limits_of(job.device)
    most = chunk = chunk_of(len(images), costs, limits, job.sizes)
    measure = None
    if known is not None and job.device.type == devices.CPU:
        chunk = 1  # batches gain nothing there, and take memory
    elif known is not None and costs is None:
        chunk = 1
        measure = _measured(job.device, limits, most)

    def make_room() -> None:
        host.free_everything_on(job.device)
        if known is not None:
            host.load_whole(known.patcher, 0)

    size = "{1}x{0}".format(*job.sizes.padded)
    LOGGER.info(
        "Preprocessing with %s on %s: %d picture(s) of %s, %d at once",
        job.method.title,
        job.device,
        len(images),
        size,
        chunk,
    )
    around = of_this_node()(0, 1)
    return Run(job, chunk, images, masks, around, make_room, measure).result()


def _measured(device: torch.device, limits: Limits, most: int) -> Callable[[int], int]:
    """What `Run.measure` is: how many pictures fit by what the first ones took."""
    backend = getattr(torch, device.type)
    backend.reset_peak_memory_stats(device)
    before = backend.memory_allocated(device)

    def chunk(frames: int) -> int:
        took = max(1, backend.max_memory_allocated(device) - before) // frames
        return max(1, min(most, limits.free // max(1, took)))

    return chunk
