"""A spandrel model with all that is known about it: where it lives, how it computes and looks.

The model stays a spandrel descriptor, so that the host's and other packs' nodes take it.
"""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...inference import precision
from ...inference.dry_run import Cost, cost_of, without_numbers
from ...inference.precision import Check, Support
from ...inference.weight_files import casting
from ...xpu_runtime import devices, host, managed_model
from ...xpu_runtime.errors import is_out_of_any_memory
from ...xpu_runtime.placement import copied, device_for
from .channels import Pass, passes
from .halo import Halo
from .halo import find as find_halo
from .masks import kept
from .plan import Costs
from .running import Job, step
from .tiles import Needs

_ATTRIBUTE = "ipex_upscaler"

_HALOS: dict[str, Halo] = {}
"""By the hash of the weights."""

_BATCHES: dict[tuple[str, str], bool] = {}
"""By the hash of the weights and the device."""


@dataclass
class Upscaler:
    """What this process knows about one loaded model. It holds no descriptor: those hold it."""

    patcher: Any
    """The host's handle on the model's memory."""
    request: str
    """The precision that the user asked for."""
    digest: str
    """The hash of the weights."""
    dtype: torch.dtype | None = None
    """What the model computes in, once that was decided."""
    twin: Any = None
    """The descriptor's copy without numbers, for dry runs."""
    costs: dict[tuple[Any, ...], Cost] = field(default_factory=dict)
    again: Callable[[], Any] | None = None
    """Loads the descriptor anew, in fp32; None where only another pack's loader could."""

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        device = self.patcher.load_device
        assert isinstance(device, torch.device)
        return device


def prepare(
    descriptor: Any,
    device: torch.device,
    request: str,
    again: Callable[[], Any] | None = None,
) -> Upscaler:
    """Put a freshly loaded descriptor under the host's memory management, on `device`."""
    casting.attach(descriptor.model)
    return _manage(descriptor, managed_model.managed(descriptor.model, device), request, again)


def _manage(
    descriptor: Any, patcher: Any, request: str, again: Callable[[], Any] | None
) -> Upscaler:
    known = Upscaler(patcher, request, casting.digest_of(descriptor.model), again=again)
    setattr(descriptor, _ATTRIBUTE, known)
    # The name under which newer hosts look for it.
    descriptor.patcher = patcher
    return known


def manage(
    descriptor: Any,
    device: torch.device,
    offload_device: torch.device | None,
    request: str,
    again: Callable[[], Any] | None,
) -> Any:
    """`descriptor`, whose hooks are attached, under the host's memory management on `device`."""
    patcher = managed_model.managed(descriptor.model, device, offload_device)
    _manage(descriptor, patcher, request, again)
    return descriptor


def known_of(descriptor: Any) -> Upscaler | None:
    """What is known about `descriptor`; None for a model of another loader."""
    return getattr(descriptor, _ATTRIBUTE, None)


def run_network(descriptor: Any, inputs: tuple[Any, ...]) -> Any:
    """The network's own answer to `inputs`, which may be on any device; on the model's."""
    known = upscaler_of(descriptor)
    moved = (one.to(known.device) if isinstance(one, Tensor) else one for one in inputs)
    with torch.inference_mode(), managed_model.resident(known.patcher, 0):
        return descriptor.model(*moved)


def placed(descriptor: Any, device: torch.device, offload_device: torch.device | None) -> Any:
    """A descriptor of the same model for `device`, with weights of its own, in the same precision.

    None keeps the weights where the host keeps models while they are not needed.
    """
    known = getattr(descriptor, _ATTRIBUTE, None)
    if known is not None and known.again is not None:
        fresh = known.again()
    else:
        fresh = with_module(descriptor, copied(descriptor.model))
    # A copy of a model that is prepared has its hooks already.
    if known is None or known.again is not None:
        casting.attach(fresh.model)
    request, again = (precision.AUTO, None) if known is None else (known.request, known.again)
    return manage(fresh, device, offload_device, request, again)


def upscaler_of(descriptor: Any) -> Upscaler:
    """What is known about `descriptor`; models of other loaders run where the host would."""
    known = getattr(descriptor, _ATTRIBUTE, None)
    if known is not None:
        return known
    return prepare(descriptor, device_for(devices.AUTO, "the upscale model"), precision.AUTO)


def needs_of(descriptor: Any) -> Needs:
    """What the model asks of its input's size."""
    asked = descriptor.size_requirements
    return Needs(asked.minimum, asked.multiple_of, asked.square)


def support_of(descriptor: Any, device: torch.device) -> Support:
    """The half precisions that architecture and device have."""
    architecture = Support(descriptor.supports_half, descriptor.supports_bfloat16)
    if device.type == devices.CPU:
        return architecture & precision.cpu_support()
    return architecture & Support(*host.supports_half(device))


def settle_dtype(descriptor: Any, known: Upscaler) -> torch.dtype:
    """The dtype that the model computes in; decided, and its weights cast, the first time."""
    if known.dtype is None:
        known.dtype = precision.settled(
            known.request,
            support_of(descriptor, known.device),
            known.digest,
            known.device,
            _test_run(descriptor, known.device),
            f"Upscaling: {descriptor.architecture.name}",
        )
        host.unload(known.patcher)
        descriptor.model.to(known.dtype)
        if known.dtype != torch.float32:
            descriptor.model.to(memory_format=torch.channels_last)
        known.patcher.size = 0  # of the weights; the host asks for it anew
        known.twin = with_module(descriptor, without_numbers(descriptor.model))
    return known.dtype


def checks_of(known: Upscaler) -> tuple[Check, ...]:
    """What was measured for precision `auto`, if it was."""
    return precision.measured(known.digest, known.device)


def _test_run(descriptor: Any, device: torch.device) -> Callable[[torch.dtype], Tensor]:
    def run(dtype: torch.dtype) -> Tensor:
        module = copy.deepcopy(descriptor.model).to(device, dtype)
        if dtype != torch.float32:
            module.to(memory_format=torch.channels_last)
        picture = precision.test_picture(descriptor.input_channels)
        inputs = [picture]
        if descriptor.purpose == "Inpainting":
            inputs.append((picture[:, :1] > 0.5).float())
        with kept(module):
            result = with_module(descriptor, module)(*(one.to(device, dtype) for one in inputs))
        return result.cpu()

    return run


def with_module(descriptor: Any, module: nn.Module) -> Any:
    """A shallow copy of a descriptor around another module."""
    twin = copy.copy(descriptor)
    # spandrel offers no public way: its constructor would load the weights again.
    twin._model = module
    vars(twin).pop(_ATTRIBUTE, None)
    vars(twin).pop("patcher", None)
    return twin


def halo_of(
    descriptor: Any, known: Upscaler, device: torch.device, most: int | None = None
) -> Halo:
    """How far the model looks; found once for the same weights. The model is on `device`.

    If it looks further than `most` pixels, the answer may be a halo that is not exact. Raises
    what an interrupt raises, between two test pictures: a slow model takes minutes for all.
    """
    if known.digest in _HALOS:
        return _HALOS[known.digest]

    def seen(picture: Tensor) -> Any:
        host.check_interrupted()
        return descriptor(picture.to(known.dtype))

    found = find_halo(
        seen,
        needs_of(descriptor),
        descriptor.input_channels,
        descriptor.scale,
        device,
        most,
    )
    if found.exact or most is None:
        _HALOS[known.digest] = found
    return found


def takes_batches(descriptor: Any, known: Upscaler) -> bool:
    """Whether the model makes of two pictures at once what it makes of each; it is loaded.

    spandrel promises nothing about batches, and some networks refuse or mix them. Found out
    once for the same weights.
    """
    key = (known.digest, str(known.device))
    if key not in _BATCHES:
        picture = precision.test_picture(descriptor.input_channels)
        both = torch.cat([picture, picture.flip(-1) * 0.5]).to(known.device, known.dtype)
        # Copies, because some networks write to their input.
        singles = torch.cat([descriptor(one[None].clone()) for one in both])
        try:
            together = descriptor(both.clone())
        except (RuntimeError, ValueError) as error:
            if isinstance(error, RuntimeError) and is_out_of_any_memory(error):
                raise
            _BATCHES[key] = False
        else:
            difference = (together - singles).abs().max()
            _BATCHES[key] = bool(difference <= precision.MOST_ERROR)
    return _BATCHES[key]


def job_of(descriptor: Any, known: Upscaler) -> Job:
    """How the model is called. `settle_dtype` comes first."""
    assert known.dtype is not None
    channels = (descriptor.input_channels, descriptor.output_channels)
    network = descriptor
    if known.device.type == devices.CPU:
        # Windows are views of the user's picture there, and some networks write to their input.
        network = functools.partial(_with_a_copy, descriptor)
    return Job(network, descriptor.scale, channels, known.dtype, known.device)


def _with_a_copy(descriptor: Any, image: Tensor) -> Tensor:
    return descriptor(image.clone(memory_format=torch.channels_last))


def costs_of(descriptor: Any, known: Upscaler, picture_channels: int) -> Costs:
    """What calls for pictures of so many channels take, found by dry runs and remembered."""
    job = job_of(known.twin, known)
    way = passes(picture_channels, *job.channels)[0]
    on_cpu = job.device.type == devices.CPU

    def cost(height: int, width: int, batch: int, several: bool) -> Cost:
        key = (height, width, batch, way)
        if key not in known.costs:
            pixels = torch.empty(batch, height, width, len(way.sources), device="meta")
            twin = known.twin.model
            with kept(twin):
                known.costs[key] = cost_of(
                    lambda image: step(job, way, image), pixels, twin, on_cpu
                )
        return with_transfers(known.costs[key], job, way, height * width * batch, several)

    return cost


def with_transfers(cost: Cost, job: Job, way: Pass, pixels: int, several: bool) -> Cost:
    """The cost of one call for so many pixels, with what waits to be copied from a device."""
    if job.device.type == devices.CPU:
        return cost
    waits = pixels * job.scale**2 * len(way.targets) if several else 0
    return Cost(cost.peak + waits * job.dtype.itemsize, cost.largest).allocated()
