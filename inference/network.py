"""A network under the host's memory management, in the dtype that it computes in.

Every node runs its networks through this: it is loaded on the way in, its precision is settled
once, and what a call costs is found by dry runs.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..xpu_runtime import devices, host, managed_model
from . import precision
from .budget import Budget
from .dry_run import meta_copy
from .facts import Memo, digest_of
from .missing_ops import complete
from .precision import Support
from .weight_files import casting

if TYPE_CHECKING:
    from ..xpu_runtime.host.types import ModelPatcher

_MOST_FACTS = 256
"""About calls of one network."""


def _channels_last(device: torch.device) -> torch.memory_format:
    return torch.channels_last


@dataclass(frozen=True)
class NetworkTraits:
    """What an architecture is, and how it is tried."""

    title: str
    """For logs: "Upscaling: ESRGAN"."""
    support: Support
    """The half precisions that the architecture can compute in."""
    answer: Callable[[nn.Module], list[Tensor]]
    """What the network, on its device, says to a test picture."""
    relative: bool = False
    """Whether an answer is compared relative to its largest number: it is no picture of 0 to 1."""
    layout: Callable[[torch.device], torch.memory_format] = _channels_last
    """Of weights in half precision on a device."""


@dataclass(eq=False)
class Network:
    """A network with all that this process found out about it."""

    module: nn.Module
    patcher: "ModelPatcher"
    traits: NetworkTraits
    request: str
    """The precision that the user asked for: one of `precision.CHOICES`."""
    digest: str
    """Of the weights as they were loaded."""
    reload: Callable[[], Any] | None = None
    """Reads the same file again; None where only another pack's loader could."""
    shared: bool = True
    """Whether others with the same content use it too; not after it was optimised."""
    dtype: torch.dtype | None = None
    """What the network computes in; None before `settle`."""
    meta: nn.Module | None = None
    """The meta copy; None before `settle`, and where there can be none (TorchScript)."""
    facts: Memo[Any] = field(default_factory=lambda: Memo(_MOST_FACTS))
    """What calls cost, by whoever runs the network: for each size of picture, each option."""
    size: int = 0
    """Bytes of the weights as they were loaded."""

    def __post_init__(self) -> None:
        weights = (*self.module.parameters(), *self.module.buffers())
        self.size = sum(weight.numel() * weight.element_size() for weight in weights)

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    @property
    def support(self) -> Support:
        return support_on(self.traits.support, self.device)

    @property
    def budget(self) -> Budget:
        """The memory of the device, beside this network."""
        return Budget(self.device, self.patcher)

    @contextlib.contextmanager
    def on_device(self, memory: int = 0) -> Iterator[None]:
        """The weights are on the load device, with so many bytes free beside them if possible.

        They stay there afterwards until the host needs the memory. After an error or an interrupt
        they are off the device.
        """
        with managed_model.resident(self.patcher, memory):
            yield

    def leave_device(self) -> None:
        self.budget.release()

    def settle(self) -> torch.dtype:
        """The dtype that the network computes in; found, and the weights cast, the first time.

        Raises what the network raises in fp32, and `torch.OutOfMemoryError`.
        """
        if self.dtype is None:
            self.dtype = precision.settled(
                self.request,
                self.support,
                self._name,
                self.device,
                self._answers_by_dtype(),
                self.traits.title,
            )
            self.leave_device()
            self._lay_out(self.module.to(self.dtype), self.dtype)
            self.patcher.size = 0  # of the weights; the host asks for it anew
            with contextlib.suppress(RuntimeError, TypeError, AttributeError):  # TorchScript
                self.meta = meta_copy(self.module)
        return self.dtype

    def checks(self) -> tuple[precision.Check, ...]:
        """What was measured for precision `auto`, if it was."""
        return precision.measured(self._name, self.device)

    @property
    def _name(self) -> str:
        """Weights and what is computed with them: methods may share weights."""
        return f"{self.traits.title} {self.digest}"

    def copy_with(self, module: nn.Module) -> "Network":
        """A network of its own around `module`, a copy of this one's in the same dtype."""
        patcher = managed_model.managed(module, self.device)
        twin = Network(
            module, patcher, self.traits, self.request, self.digest, self.reload, shared=False
        )
        twin.dtype, twin.meta = self.dtype, self.meta
        return twin

    def _lay_out(self, module: nn.Module, dtype: torch.dtype) -> None:
        if dtype != torch.float32:
            module.to(memory_format=self.traits.layout(self.device))

    def _answers_by_dtype(self) -> Callable[[torch.dtype], Tensor]:
        """By dtype, what a copy of the network says to the test picture; fp32 comes first."""
        reference: list[Tensor] = []

        def answer(dtype: torch.dtype) -> Tensor:
            self.budget.make_room(2 * self.size)
            trial = copy.deepcopy(self.module).to(self.device, dtype)
            self._lay_out(trial, dtype)
            try:
                with torch.inference_mode():
                    said = complete(self.device, lambda: self.traits.answer(trial))
                    said = [one.detach().float().cpu() for one in said if one.numel()]
            finally:
                # A copy in a reference cycle would hold its memory on the card for a while.
                trial.to("meta")
            if dtype == torch.float32:
                reference.extend(said)
            return _comparable(said, reference, self.traits.relative)

        return answer


def _comparable(said: list[Tensor], reference: list[Tensor], relative: bool) -> Tensor:
    """Answers in a row, if wanted each relative to the largest number in its reference.

    Infinite where the network gave other answers than in fp32: nothing can be compared.
    """
    if not reference or [one.shape for one in said] != [one.shape for one in reference]:
        return torch.full((1,), torch.inf)
    scales = (max(float(one.abs().amax()), 1e-6) if relative else 1.0 for one in reference)
    return torch.cat([(one / by).flatten() for one, by in zip(said, scales, strict=True)])


def support_on(architecture: Support, device: torch.device) -> Support:
    if device.type == devices.CPU:
        return architecture & precision.cpu_support()
    return architecture & Support(*host.supports_half(device))


def managed_network(
    module: nn.Module,
    traits: NetworkTraits,
    device: torch.device,
    request: str,
    *,
    offload_device: torch.device | None = None,
    reload: Callable[[], Any] | None = None,
    casts: bool = True,
) -> Network:
    """`module`, on the CPU in fp32, as a network for `device`.

    `casts`: it is made to take floats of any dtype; not again for a copy that does. While it is not
    loaded, its weights are on `offload_device`, by default where the host keeps models.
    """
    if casts:
        for part in called_parts(module):
            casting.attach(part)
    patcher = managed_model.managed(module, device, offload_device)
    return Network(module, patcher, traits, request, digest_of(module), reload)


def called_parts(module: nn.Module) -> list[nn.Module]:
    """What is called of a network: itself, or the parts of one that only holds parts."""
    if type(module).forward is nn.Module.forward:
        return [inner for part in module.children() for inner in called_parts(part)]
    return [module]
