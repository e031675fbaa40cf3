"""Upscale models: what a spandrel descriptor's network is, takes, costs, and how far it looks.

The model stays a spandrel descriptor, so that the host's and other packs' nodes take it.
"""

import contextlib
import copy
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...inference import precision
from ...inference.dry_run import Cost, cost_of
from ...inference.facts import Memo
from ...inference.network import Network, NetworkTraits, managed_network
from ...inference.precision import Support
from ...xpu_runtime import devices, host
from ...xpu_runtime.errors import is_about_the_device
from ...xpu_runtime.log import LOGGER
from ...xpu_runtime.placement import device_for
from .channels import Pass, passes
from .halo import Halo, find_halo
from .masks import share_masks
from .plan import Costs
from .tile_task import TileNetwork, compute_tiles
from .tiles import Needs

if TYPE_CHECKING:
    from ...xpu_runtime.host.types import Descriptor

INPAINTING = "Inpainting"
"""What spandrel calls models that fill what a mask marks."""

FACES = "FaceSR"
"""What spandrel calls models for one aligned face."""

HALOS: Memo[Halo] = Memo(1024)
"""By the digest of the weights."""

_BATCHES: Memo[bool] = Memo(1024)
"""By the digest of the weights and the device: whether the model takes several pictures."""

_NETWORKS: "weakref.WeakKeyDictionary[Descriptor, Network]" = weakref.WeakKeyDictionary()
"""The network of each descriptor, for as long as somebody has the descriptor."""

_MEASURED_SIDE = 128
"""Of the picture with which networks are measured that cannot run dry."""


class UnsuitableModelError(ValueError):
    """A model that a node cannot use, or not with this picture."""


def manage(
    descriptor: "Descriptor",
    device: torch.device,
    request: str,
    *,
    offload_device: torch.device | None = None,
    reload: "Callable[[], Descriptor] | None" = None,
    casts: bool = True,
) -> Network:
    """Put a descriptor, on the CPU in fp32, under the host's memory management, for `device`.

    The arguments are those of `managed_network`.
    """
    network = managed_network(
        descriptor.model,
        _traits_of(descriptor),
        device,
        request,
        offload_device=offload_device,
        reload=reload,
        casts=casts,
    )
    adopt(descriptor, network)
    return network


def adopt(descriptor: "Descriptor", network: Network) -> None:
    _NETWORKS[descriptor] = network
    # The name under which newer hosts look for it.
    descriptor.patcher = network.patcher


def is_managed(descriptor: "Descriptor") -> bool:
    """Whether the model comes from our loader, or was used here before."""
    return descriptor in _NETWORKS


def network_of(descriptor: "Descriptor") -> Network:
    """The network of `descriptor`; models of other loaders run where the host would."""
    known = _NETWORKS.get(descriptor)
    if known is not None:
        return known
    for other in _NETWORKS.values():
        if other.module is descriptor.model:  # of a descriptor that this one is a copy of
            _NETWORKS[descriptor] = other
            return other
    return manage(descriptor, device_for(devices.AUTO, "the upscale model"), precision.AUTO)


def with_module(descriptor: "Descriptor", module: nn.Module) -> "Descriptor":
    """A shallow copy of a descriptor around another module."""
    twin = copy.copy(descriptor)
    # spandrel offers no public way: its constructor would load the weights again.
    vars(twin)["_model"] = module
    vars(twin).pop("patcher", None)
    return twin


def needs_of(descriptor: "Descriptor") -> Needs:
    asked = descriptor.size_requirements
    return Needs(asked.minimum, asked.multiple_of, asked.square)


def test_inputs(
    descriptor: "Descriptor", size: tuple[int, int] = precision.CHECK_SIZE
) -> list[Tensor]:
    """fp32 on the CPU: a test picture, and a mask for models that take one."""
    picture = precision.test_picture(descriptor.input_channels, size)
    return [picture, (picture[:, :1] > 0.5).float()] if takes_mask(descriptor) else [picture]


def takes_mask(descriptor: "Descriptor") -> bool:
    return descriptor.purpose == INPAINTING


def _traits_of(descriptor: "Descriptor") -> NetworkTraits:
    # Around no network: a network must not keep its descriptor alive.
    frame = with_module(descriptor, nn.Module())

    def answer(module: nn.Module) -> list[Tensor]:
        weight = next(module.parameters(), None)
        inputs = test_inputs(frame)
        if weight is not None:
            inputs = [one.to(weight.device, weight.dtype) for one in inputs]
        with share_masks(module):
            return [with_module(frame, module)(*inputs)]

    support = Support(descriptor.supports_half, descriptor.supports_bfloat16)
    return NetworkTraits(f"Upscaling: {descriptor.architecture.name}", support, answer)


def halo_of(descriptor: "Descriptor", network: Network, most: int | None = None) -> Halo:
    """How far the model looks; found once for the same weights. The model is on its device.

    If it looks further than `most` pixels, the answer may be a halo that is not exact. Raises
    what an interrupt raises, between two test pictures: a slow model takes minutes for all.
    """
    known = HALOS.get(network.digest)
    if known is not None:
        return known

    def look(picture: Tensor) -> Tensor:
        host.check_interrupted()
        return descriptor(picture.to(network.dtype))

    found = find_halo(
        look,
        needs_of(descriptor),
        descriptor.input_channels,
        descriptor.scale,
        network.device,
        most,
    )
    return HALOS.find(network.digest, lambda: found) if found.exact or most is None else found


def takes_batches(descriptor: "Descriptor", network: Network) -> bool:
    """Whether the model makes of two pictures at once what it makes of each; it is loaded.

    spandrel promises nothing about batches, and some networks refuse or mix them. Found out
    once for the same weights.
    """

    def compare() -> bool:
        picture = precision.test_picture(descriptor.input_channels)
        both = torch.cat([picture, picture.flip(-1) * 0.5]).to(network.device, network.dtype)
        # Copies, because some networks write to their input.
        singles = torch.cat([descriptor(one[None].clone()) for one in both])
        try:
            together = descriptor(both.clone())
        except (RuntimeError, ValueError) as error:
            if is_about_the_device(error):
                raise
            return False
        return bool((together - singles).abs().max() <= precision.MOST_ERROR)

    return _BATCHES.find((network.digest, str(network.device)), compare)


def tile_network(descriptor: "Descriptor", network: Network) -> TileNetwork:
    """How the model is called with pictures. `Network.settle` comes first."""
    assert network.dtype is not None
    channels = (descriptor.input_channels, descriptor.output_channels)
    call: Callable[[Tensor], Tensor] = descriptor
    if network.device.type == devices.CPU:
        # Windows are views of the user's picture there, and some networks write to their input.
        call = functools.partial(_call_with_a_copy, descriptor)
    return TileNetwork(call, descriptor.scale, channels, network.dtype, network.device)


def _call_with_a_copy(descriptor: "Descriptor", image: Tensor) -> Tensor:
    return descriptor(image.clone(memory_format=torch.channels_last))


def costs_of(descriptor: "Descriptor", network: Network, picture_channels: int) -> Costs:
    """What calls for pictures of so many channels take; the model is loaded when it is asked.

    Found by dry runs. Some networks look at their numbers to decide what to compute (Tensor.item,
    nonzero), so that they cannot be called without any. What they take is measured once, at a
    small size, and counts as growing with the pixels.
    """
    real = tile_network(descriptor, network)
    way = passes(picture_channels, *real.channels)[0]

    def cost(height: int, width: int, batch: int, several: bool) -> Cost:
        found = None
        if ("cannot run dry", batch > 1) not in network.facts:
            found = _dry_cost(descriptor, network, way, (batch, height, width))
        pixels = height * width * batch
        if found is None:
            found = _measured_cost(descriptor, network, way, batch)
            found = found.scaled(pixels / _MEASURED_SIDE**2)
        return with_transfers(found, real, way, pixels, several)

    return cost


def _dry_cost(
    descriptor: "Descriptor", network: Network, way: Pass, size: tuple[int, int, int]
) -> Cost | None:
    """What one call takes; None for a network that cannot run dry."""
    meta = network.meta
    if meta is None:
        return None
    dry = tile_network(with_module(descriptor, meta), network)

    def count() -> Cost | None:
        pixels = torch.empty(*size, len(way.sources), device="meta")
        try:
            with share_masks(meta):
                return cost_of(
                    lambda image: compute_tiles(dry, way, image),
                    pixels,
                    meta,
                    network.device.type == devices.CPU,
                )
        except (RuntimeError, ValueError) as error:
            LOGGER.info(
                "Upscaling: %s cannot run dry (%s). The memory that it takes is measured.",
                descriptor.architecture.name,
                str(error).splitlines()[0],
            )
            return None

    return network.facts.find((*size, way), count)


def _measured_cost(descriptor: "Descriptor", network: Network, way: Pass, batch: int) -> Cost:
    """What a picture of `_MEASURED_SIDE` squared takes, from a real call."""

    def measure() -> Cost:
        height, width = needs_of(descriptor).padded(_MEASURED_SIDE, _MEASURED_SIDE)
        pixels = torch.rand(1, height, width, len(way.sources), device=network.device)
        real = tile_network(descriptor, network)
        found = cost_of(lambda image: compute_tiles(real, way, image), pixels)
        return found.scaled(_MEASURED_SIDE**2 / (height * width))

    found = network.facts.find(("measured", way), measure)
    network.facts.find(("cannot run dry", batch > 1), lambda: None)
    assert found is not None
    return found


def with_transfers(cost: Cost, network: TileNetwork, way: Pass, pixels: int, several: bool) -> Cost:
    """The cost of one call for so many pixels, with what waits to be copied from a device."""
    if network.device.type == devices.CPU:
        return cost
    waits = pixels * network.scale**2 * len(way.targets) if several else 0
    return Cost(cost.peak + waits * network.dtype.itemsize, cost.largest).allocated()


@contextlib.contextmanager
def loaded(descriptor: "Descriptor") -> Iterator[Network]:
    """The network of `descriptor` in its dtype, on its device, with masks that are made once."""
    network = network_of(descriptor)
    network.settle()
    with torch.inference_mode(), network.on_device(), share_masks(network.module):
        yield network


def call_network(descriptor: "Descriptor", *inputs: object) -> Tensor:
    """The network's own answer to `inputs`, of which tensors may be on any device; on its own."""
    network = network_of(descriptor)
    moved = (one.to(network.device) if isinstance(one, Tensor) else one for one in inputs)
    with torch.inference_mode(), network.on_device():
        answer: Tensor = network.module(*moved)
    return answer


def describe(descriptor: "Descriptor") -> list[str]:
    """Lines about a model, for people. The model is loaded for the halo."""
    network = network_of(descriptor)
    dtype = network.settle()
    support = network.support
    names = ["fp32", *(precision.name_of(half) for half in support.dtypes())]
    lines = [
        f"architecture: {descriptor.architecture.name} {' '.join(descriptor.tags)}".rstrip(),
        f"purpose: {descriptor.purpose}",
        f"scale: {descriptor.scale}",
        f"channels: {descriptor.input_channels} in, {descriptor.output_channels} out",
        f"size: {needs_of(descriptor)}",
        f"device: {network.device}, computes in {precision.name_of(dtype)}",
        f"possible there: {', '.join(names)}",
        *(f"measured: {check.text}" for check in network.checks()),
    ]
    if descriptor.purpose in (FACES, INPAINTING):
        return [*lines, "halo: none, the picture is never cut"]
    costs = costs_of(descriptor, network, descriptor.input_channels)
    with torch.inference_mode(), network.on_device():
        lines.append(f"halo: {halo_of(descriptor, network).note}")
        for side in (256, 512, 1024):
            cost = costs(side, side, 1, False)
            lines.append(
                f"a tile of {side}x{side} takes {cost.peak / 2**20:.0f} MiB, its largest tensor "
                f"{cost.largest / 2**20:.0f} MiB"
            )
    return lines
