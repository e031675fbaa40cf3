"""Networks of preprocessors: loaded once, under the host's memory management, in their dtype."""

import contextlib
import copy
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...inference import missing_ops, precision
from ...inference.dry_run import Cost, without_numbers
from ...inference.limits import FREE_SHARE
from ...inference.precision import Support
from ...inference.weight_files import casting
from ...xpu_runtime import devices, host, managed_model
from ...xpu_runtime.log import LOGGER
from .geometry import geometry
from .method import Batch, Method, NetworkSpec, WeightFile

KEPT_BYTES = 4 << 30
"""Weights that are kept in memory for the next run although no workflow holds them; the last
network is always kept."""

Find = Callable[[WeightFile], Path]
"""Where a file lies; raises if it is nowhere."""


@dataclass(eq=False)
class Loaded:
    """A network with all that this process knows about it."""

    module: nn.Module
    patcher: Any
    """The host's handle on its memory."""
    network: NetworkSpec
    request: str
    """The precision that the user asked for."""
    identity: str
    """Of its files: names, sizes and times."""
    size: int
    """Bytes of the weights as they were loaded."""
    dtype: torch.dtype | None = None
    """What it computes in, once that was decided."""
    twin: nn.Module | None = None
    """A copy without numbers, for dry runs; None where there can be none."""
    costs: dict[Any, Cost | None] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device = self.patcher.load_device
        assert isinstance(device, torch.device)
        return device


_LOADED: weakref.WeakValueDictionary[Any, Loaded] = weakref.WeakValueDictionary()
"""Networks that something still holds."""

_KEPT: "OrderedDict[Any, Loaded]" = OrderedDict()
"""Those that are held here, the last used one last."""


def network_of(
    method: Method, options: Mapping[str, Any], device: torch.device, request: str, find: Find
) -> Loaded | None:
    """The network for these options; None for methods without one.

    It is loaded once for the same files, device and precision. Raises what `find` and the
    network's own loader raise.
    """
    network = method.network(options)
    if network is None:
        return None
    paths = {file.name: find(file) for file in network.files}
    identity = tuple(_identity(path) for path in paths.values())
    key = (network.load, identity, str(device), request)
    found = _LOADED.get(key)
    if found is None:
        found = _prepared(network, network.load(paths), device, request, str(identity))
        _LOADED[key] = found
        LOGGER.info(
            "Preprocessing: %s: weights were read (%.0f MiB)", method.title, found.size / 2**20
        )
    _keep(key, found)
    return found


def _identity(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _prepared(
    network: NetworkSpec, module: nn.Module, device: torch.device, request: str, identity: str
) -> Loaded:
    for part in callables(module):
        casting.attach(part)
    weights = (*module.parameters(), *module.buffers())
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    patcher = managed_model.managed(module, device)
    return Loaded(module, patcher, network, request, identity, size)


def _keep(key: Any, loaded: Loaded) -> None:
    _KEPT[key] = loaded
    _KEPT.move_to_end(key)
    while len(_KEPT) > 1 and sum(one.size for one in _KEPT.values()) > KEPT_BYTES:
        _let_go()


def forget() -> None:
    """Let go of all networks that are only kept for the next run."""
    while _KEPT:
        _let_go()


def _let_go() -> None:
    """Of the one that was not used for longest."""
    _, dropped = _KEPT.popitem(last=False)
    # Reference cycles in a network would hold its memory on the card for a while; whoever
    # else holds it has it loaded again.
    host.unload(dropped.patcher)


def callables(module: nn.Module) -> list[nn.Module]:
    """What is called of a network: itself, or the parts of one that only holds parts."""
    if type(module).forward is nn.Module.forward:
        return [inner for part in module.children() for inner in callables(part)]
    return [module]


def settle(loaded: Loaded, method: Method, options: Mapping[str, Any]) -> torch.dtype:
    """The dtype that the network computes in; decided, and its weights cast, the first time."""
    if loaded.dtype is not None:
        return loaded.dtype
    support = Support(loaded.network.half, loaded.network.half)
    if loaded.device.type == devices.CPU:
        support &= precision.cpu_support()
    else:
        support &= Support(*host.supports_half(loaded.device))
    loaded.dtype = precision.settled(
        loaded.request,
        support,
        loaded.identity,
        loaded.device,
        _test_run(loaded, method, options),
        f"Preprocessing: {method.title}",
    )
    host.unload(loaded.patcher)
    loaded.module.to(loaded.dtype)
    if loaded.dtype != torch.float32:
        loaded.module.to(memory_format=loaded.network.layout(loaded.device))
    loaded.patcher.size = 0  # of the weights; the host asks for it anew
    with contextlib.suppress(RuntimeError, TypeError, AttributeError):  # TorchScript has none
        loaded.twin = without_numbers(loaded.module)
    return loaded.dtype


def _test_run(
    loaded: Loaded, method: Method, options: Mapping[str, Any]
) -> Callable[[torch.dtype], Tensor]:
    """By dtype, what the network says of a test picture, as shares of the most that it says.

    The hint itself would not do: it may be black, or cut to a few shades that the least
    difference moves by one.
    """
    device = loaded.device
    size = geometry(*precision.CHECK_SIZE, 0, method.multiple_of).padded
    picture = precision.test_picture(3, size)
    reference: list[Tensor] = []

    def run(dtype: torch.dtype) -> Tensor:
        make_room(device, 2 * loaded.size)
        module = copy.deepcopy(loaded.module).to(device, dtype)
        if dtype != torch.float32:
            module.to(memory_format=loaded.network.layout(device))
        batch = Batch(picture.to(device), 0, picture[:, :1].to(device))
        try:
            with torch.inference_mode(), recorded(module) as said:
                missing_ops.complete(device, lambda: method.make_hint(module, batch, options))
        finally:
            # A copy in a reference cycle would hold its memory on the card for a while.
            module.to("meta")
        said = [one.cpu() for one in said if one.numel()]
        if dtype == torch.float32:
            reference.extend(said)
        return _compared(said, reference)

    return run


def _compared(said: list[Tensor], reference: list[Tensor]) -> Tensor:
    """What a network said, each result relative to the greatest number in its reference."""
    if not reference or [one.shape for one in said] != [one.shape for one in reference]:
        return torch.full((1,), torch.inf)  # other calls than in fp32: nothing to compare
    scales = (max(float(one.abs().amax()), 1e-6) for one in reference)
    return torch.cat([(one / by).flatten() for one, by in zip(said, scales, strict=True)])


@contextlib.contextmanager
def recorded(module: nn.Module) -> Iterator[list[Tensor]]:
    """The float tensors that the network's calls give back, in fp32, as they come."""
    said: list[Tensor] = []

    def hear(part: nn.Module, inputs: Any, output: Any) -> None:
        del part, inputs
        said.extend(_floats(output))

    hooks = [part.register_forward_hook(hear) for part in callables(module)]
    try:
        yield said
    finally:
        for hook in hooks:
            hook.remove()


def _floats(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.detach().float()] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [one for part in value for one in _floats(part)]
    return []


def make_room(device: torch.device, needed: int) -> None:
    """Have the host unload models from `device` if fewer bytes than this are free there."""
    if device.type != devices.CPU and host.free_memory(device) < needed / FREE_SHARE:
        host.evict(device, needed / FREE_SHARE)
