"""Where something runs: on a device of this process, or on a worker's.

A function of this extension runs unchanged at either location. What it needs there is held
there, and a `Handle` stands for it in the call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..devices import CPU
from ..workers import Resident, Worker

if TYPE_CHECKING:
    import torch


Answer = TypeVar("Answer")


class Outcome(Protocol):
    """The answer to a call that was begun."""

    def is_there(self) -> bool:
        """Whether `result` would not wait."""

    def result(self) -> Any:
        """The answer; waits for it. Raises what the function raises, and the interruption."""

    def abandon(self) -> None:
        """Nobody wants the answer any more: the function stops at its next chance."""


@dataclass(frozen=True)
class Held:
    """An object that this process holds: a handle of `Here`."""

    value: Any


@dataclass(frozen=True)
class Computed:
    """The answer of a call that was made here: it is there already."""

    value: Any

    def is_there(self) -> bool:
        return True

    def result(self) -> Any:
        return self.value

    def abandon(self) -> None:
        """Nothing is under way."""


@dataclass(frozen=True)
class Here:
    """A device of this process."""

    device: "torch.device"

    @property
    def process(self) -> str:
        """The process that has the device, for a user."""
        return "in this process"

    def hold(self, make: Callable[..., Any], *arguments: Any) -> Held:
        """A handle on `make(*arguments)`, made now."""
        return Held(make(*map(_value, arguments)))

    def call(self, function: Callable[..., Answer], *arguments: Any, **named: Any) -> Answer:
        """`function(*arguments, **named)`; a handle stands for what it holds."""
        return function(*map(_value, arguments), **{key: _value(v) for key, v in named.items()})

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Outcome:
        """The same, computed before this returns."""
        return Computed(self.call(function, *arguments))

    def expose(self, handle: "Handle", proxy: Callable[[Any], Any]) -> Any:
        """What other nodes are given for `handle`: the object itself."""
        assert isinstance(handle, Held)
        return handle.value

    def reach(self, handle: "Handle | None") -> Held | None:
        """`handle`, if this process can use what it holds: it can."""
        return handle if isinstance(handle, Held) else None

    def home(self, auto: "Callable[[], torch.device]") -> "torch.device":
        """The device of this process for a component that is to run here: this one."""
        return self.device

    def carry(self, component: Any, place: Callable[[], Any]) -> Any:
        """`component`, made for the device `home`, at this location: there it is already."""
        return component

    def runs_beside(self, other: "Location") -> bool:
        """Whether work at this location goes on while `other` computes."""
        return isinstance(other, There)

    def local_device(self, other: "Location") -> "torch.device | None":
        """The device of `other` as the process here calls it; None: it is another process's.

        The computer's memory, "cpu", is every process's.
        """
        is_ours = isinstance(other, Here) or other.device.type == CPU
        return other.device if is_ours else None

    def __str__(self) -> str:
        return str(self.device)


@dataclass(frozen=True)
class There:
    """A device of a worker."""

    worker: Worker
    device: "torch.device"
    """As the worker's own torch calls it."""

    @property
    def process(self) -> str:
        return f"on the worker {self.worker.plan.name!r}"

    def hold(self, make: Callable[..., Any], *arguments: Any) -> Resident:
        """A handle on `make(*arguments)`, made there before it is first used.

        The worker makes it again if it was replaced, and forgets it when the handle is gone.
        """
        return Resident(self.worker, make, *arguments)

    def call(self, function: Callable[..., Answer], *arguments: Any, **named: Any) -> Answer:
        """`function(*arguments, **named)` there; a handle stands for what it holds.

        `function` must be pure: it is called once more if the worker dies. Raises what it
        raises, the host's interruption, and `WorkerError`.
        """
        answer: Answer = self.worker.call(function, *arguments, **named)
        return answer

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Outcome:
        """The same, while this process goes on."""
        return self.worker.begin(function, *arguments)

    def expose(self, handle: "Handle", proxy: Callable[[Any], Any]) -> Any:
        """What other nodes are given for `handle`: `proxy(handle)`."""
        return proxy(handle)

    def reach(self, handle: "Handle | None") -> Held | None:
        """`handle`, if this process can use what it holds: None, it is in the worker."""
        return None

    def home(self, auto: "Callable[[], torch.device]") -> "torch.device":
        """The device of this process for a component that is to run there: `auto()`."""
        return auto()

    def carry(self, component: Any, place: Callable[[], Any]) -> Any:
        """`component`, made for the device `home`, at this location: what `place()` makes of it."""
        return place()

    def runs_beside(self, other: "Location") -> bool:
        return not isinstance(other, There) or other.worker is not self.worker

    def local_device(self, other: "Location") -> "torch.device | None":
        is_theirs = isinstance(other, There) and other.worker is self.worker
        return other.device if is_theirs or other.device.type == CPU else None

    def __str__(self) -> str:
        return f"{self.device}@{self.worker.plan.name}"


Location = Here | There
Handle = Held | Resident


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, Held) else argument
