"""Which job goes to which server: pure bookkeeping, no threads, no clock.

Jobs are given out in their order. One that failed goes to a server that has not tried it. Where
every server has, a failure of the job itself is final, and one that took the server down is tried
again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .jobs import Job


@dataclass(eq=False)
class Attempt:
    job: Job
    tried: list[str] = field(default_factory=list)
    """The servers that failed at it, in order."""
    errors: list[str] = field(default_factory=list)
    server_ended: bool = False
    """Whether the last failure was the server's end."""


class Board:
    def __init__(self, jobs: Sequence[Job], retries: int) -> None:
        """`retries`: how often a job that failed is tried again."""
        self.waiting = [Attempt(job) for job in jobs]
        self.running: dict[str, Attempt] = {}
        """By the name of their server."""
        self.servers: set[str] = set()
        self.done = 0
        self.failed: list[Attempt] = []
        self._tries = retries + 1

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.running

    def join(self, server: str) -> None:
        """A server is there, or will be."""
        self.servers.add(server)

    def leave(self, server: str) -> list[Attempt]:
        """A server is gone for good. Returns the jobs that fail by that: none is left to try."""
        self.servers.discard(server)
        return self._sort_out()

    def take(self, server: str) -> Attempt | None:
        """The next job for a server, which then runs; None while there is none for it."""
        for attempt in self.waiting:
            if server not in attempt.tried or self._may_repeat(attempt):
                self.waiting.remove(attempt)
                self.running[server] = attempt
                return attempt
        return None

    def finish(self, server: str) -> None:
        del self.running[server]
        self.done += 1

    def give_back(self, server: str, error: str, server_ended: bool) -> list[Attempt]:
        """A server failed at its job. Returns the jobs that have failed for good by that."""
        attempt = self.running.pop(server)
        attempt.tried.append(server)
        attempt.errors.append(error)
        attempt.server_ended = server_ended
        # Before the others, so that frames stay in order as far as can be.
        self.waiting.insert(0, attempt)
        return self._sort_out()

    def _may_repeat(self, attempt: Attempt) -> bool:
        return attempt.server_ended and self.servers <= set(attempt.tried)

    def _sort_out(self) -> list[Attempt]:
        """Move what waits in vain to the failed ones."""
        vain = [attempt for attempt in self.waiting if self._in_vain(attempt)]
        self.waiting = [attempt for attempt in self.waiting if attempt not in vain]
        self.failed += vain
        return vain

    def _in_vain(self, attempt: Attempt) -> bool:
        if len(attempt.tried) >= self._tries:
            return True
        # Without any server left, what waits is not failed but left undone.
        everybody = bool(self.servers) and self.servers <= set(attempt.tried)
        return bool(attempt.tried) and everybody and not attempt.server_ended
