"""What a worker keeps, and what it was asked for and has not answered yet."""

import uuid
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .worker import Worker


class WorkerGoneError(Exception):
    """The worker's process ended while it was asked, or cannot be used any more."""


class Resident:
    """An object that a worker keeps, with what makes it there again after the worker's death.

    Lives in this process; the worker forgets its object when this one is gone.
    """

    def __init__(self, worker: "Worker", function: Callable[..., Any], *arguments: Any) -> None:
        """`function` is one of this extension; its answer, made in the worker, is what is kept.

        `arguments` may hold other residents of the same worker.
        """
        self.worker = worker
        self.key = uuid.uuid4().hex
        self.function = function
        self.arguments = arguments
        self.life = 0
        """The worker's life in which the object was made; 0: in none."""
        weakref.finalize(self, worker.abandoned.append, self.key)


class Sent:
    """A call on its way: what Ray calls it, what the worker calls it, and in which life."""

    def __init__(self, reference: Any, ticket: str, life: int) -> None:
        self.reference = reference
        self.ticket = ticket
        self.life = life


class Pending:
    """A call that a worker computes while this process goes on: `Worker.begin`."""

    def __init__(
        self,
        worker: "Worker",
        sent: Sent | None,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        """`sent` None: the worker ended before it was asked."""
        self._worker = worker
        self._sent = sent
        self._what = (function, arguments)

    def is_there(self) -> bool:
        """Whether `result` would not wait: the answer is here, or the worker has ended."""
        return self._sent is None or self._worker.has_answered(self._sent)

    def result(self) -> Any:
        """The answer; waits for it, with its progress shown and the user's interrupt passed on.

        If the worker has died, it is started again and asked once more. Raises as `Worker.call`.
        """
        function, arguments = self._what
        return self._worker.finish(self._sent, function, arguments)

    def abandon(self) -> None:
        """Nobody wants the answer: the worker leaves it out, or stops at its next chance."""
        if self._sent is not None:
            self._worker.abandon(self._sent)
