"""What a call of a network takes in memory, found without computing it. Figures are in bytes.

The call runs on torch's meta device, whose tensors have shapes and no numbers. What counts is
what is alive at once, as a caching allocator would see it; workspaces of convolution libraries
are not seen.
"""

import copy
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def _copies(operator: Any, result: Any) -> bool:
    """Whether GPUs write the result in another layout first, and then copy it.

    Upsampling does so for channels_last with fewer than 4 channels (UpSampleNearest2d.cu; seen
    on an H200).
    """
    return bool(operator.__name__.startswith("upsample_") and result.shape[1] < 4)


@dataclass(frozen=True)
class Cost:
    """What one call takes beside the weights."""

    peak: int
    """The most that was alive at once, input and result included."""
    largest: int
    """The largest single tensor."""

    def allocated(self) -> "Cost":
        """The same as torch's caching allocators count it.

        They give a tensor up to 1 MiB more than it asks for rather than split a block
        (kSmallSize in CUDACachingAllocator.cpp and XPUCachingAllocator.cpp).
        """
        return Cost(int(self.peak * 1.02) + (2 << 20), self.largest)

    def scaled(self, factor: float) -> "Cost":
        """The cost of `factor` times as many pixels, if it grows with them."""
        return Cost(int(self.peak * factor), int(self.largest * factor))


def cost_of(
    call: Callable[[Tensor], Any],
    image: Tensor,
    weights: nn.Module | None = None,
    on_cpu: bool = False,
) -> Cost:
    """What `call(image)` takes; on the meta device nothing is computed.

    Views of the tensors that `weights` holds, which may be on the meta device, take nothing.
    `on_cpu` says that it is the cost on a CPU that is asked for.
    """
    # torch imports this module on demand; the host may not have done so yet.
    from torch.utils._python_dispatch import TorchDispatchMode

    account = _Account()

    class _Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            account.take(result)
            if not on_cpu and _copies(func, result):
                account.note_copy(result)
            return result

    if weights is not None:
        account.ignore(weights)
    # In inference mode composite operators would arrive whole; their parts allocate.
    with torch.inference_mode(False), torch.no_grad():
        image = image.clone()
        account.take(image)
        with _Counting():
            call(image)
    return Cost(account.peak, account.largest)


@torch.inference_mode()  # networks that replace their weights in a call turn it on
def meta_copy(module: nn.Module) -> nn.Module:
    """A copy of `module` on the meta device; `module` is not changed and not copied.

    Tensors that are plain attributes of its parts go along: networks keep means and masks so.
    """
    twins: dict[int, Any] = {}
    for value in _held_by(module):
        twin = torch.empty_like(value, device="meta")
        is_parameter = isinstance(value, nn.Parameter)
        twins[id(value)] = nn.Parameter(twin, requires_grad=False) if is_parameter else twin
    return copy.deepcopy(module, twins)


def _held_by(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that are plain attributes of its parts."""
    for part in module.modules():
        for held in (part._parameters, part._buffers, vars(part)):
            yield from (value for value in held.values() if isinstance(value, Tensor))


class _Account:
    """Live storages, each once."""

    def __init__(self) -> None:
        self.live: dict[int, int] = {}
        self.now = 0
        self.peak = 0
        self.largest = 0
        self._held: set[int] = set()

    def ignore(self, module: nn.Module) -> None:
        """Count nothing that shares memory with what `module` holds."""
        for tensor in _held_by(module):
            storage = tensor.untyped_storage()
            self._held.add(storage._cdata)
            # A network may let go of a weight, and another tensor then get its place.
            weakref.finalize(storage, self._held.discard, storage._cdata)

    def take(self, result: Any) -> None:
        """Count the tensors of an operator's result that are new."""
        if isinstance(result, Tensor):
            self._count(result)
        elif isinstance(result, tuple | list):
            for part in result:
                self.take(part)

    def note_copy(self, result: Tensor) -> None:
        """An operator held a copy of its result before it returned."""
        self.peak = max(self.peak, self.now + result.untyped_storage().nbytes())

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live or key in self._held:
            return
        size = storage.nbytes()
        self.live[key] = size
        weakref.finalize(storage, self._release, key)
        self.now += size
        self.peak = max(self.peak, self.now)
        self.largest = max(self.largest, size)

    def _release(self, key: int) -> None:
        self.now -= self.live.pop(key)
