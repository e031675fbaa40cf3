"""What a call of a network takes in memory, found without computing it. Figures are in bytes.

The call runs on torch's meta device, whose tensors have shapes and no numbers. What counts is
what is alive at once, as a caching allocator would see it; workspaces of convolution libraries
are not seen.
"""

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """What one call takes beside the weights."""

    peak: int
    """The most that was alive at once, input and result included."""
    largest: int
    """The largest single tensor."""

    def scaled(self, factor: float) -> "Cost":
        """The cost of `factor` times as many pixels, if it grows with them."""
        return Cost(int(self.peak * factor), int(self.largest * factor))


def cost_of(call: Callable[[Tensor], Tensor], image: Tensor) -> Cost:
    """What `call(image)` takes; on the meta device nothing is computed."""
    # torch imports this module on demand; the host may not have done so yet.
    from torch.utils._python_dispatch import TorchDispatchMode

    account = _Account()

    class _Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            # In inference mode composite operators arrive whole; their parts allocate.
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            result = func(*args, **(kwargs or {})) if parts is NotImplemented else parts
            account.take(result)
            return result

    account.take(image)
    with torch.no_grad(), _Counting():
        call(image)
    return Cost(account.peak, account.largest)


@torch.inference_mode()  # networks that replace their weights in a call, in which it is on
def without_numbers(module: nn.Module) -> nn.Module:
    """A copy of `module` on the meta device; `module` is not changed and not copied.

    Tensors that are plain attributes of its parts go along: networks keep means and masks so.
    """
    twins: dict[int, Any] = {}
    for part in module.modules():
        for held in (part._parameters, part._buffers, vars(part)):
            for value in held.values():
                if isinstance(value, nn.Parameter):
                    twins[id(value)] = nn.Parameter(value.detach().to("meta"), requires_grad=False)
                elif isinstance(value, Tensor):
                    twins[id(value)] = value.detach().to("meta")
    return copy.deepcopy(module, twins)


class _Account:
    """Live storages, each once."""

    def __init__(self) -> None:
        self.live: dict[int, int] = {}
        self.now = 0
        self.peak = 0
        self.largest = 0

    def take(self, result: Any) -> None:
        """Count the tensors of an operator's result that are new."""
        if isinstance(result, Tensor):
            self._count(result)
        elif isinstance(result, tuple | list):
            for part in result:
                self.take(part)

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live:
            return
        size = storage.nbytes()
        self.live[key] = size
        weakref.finalize(storage, self._release, key)
        self.now += size
        self.peak = max(self.peak, self.now)
        self.largest = max(self.largest, size)

    def _release(self, key: int) -> None:
        self.now -= self.live.pop(key)
