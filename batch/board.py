"""Which job goes to which host: pure bookkeeping, no threads, no clock.

Jobs are given out in their order. One that failed goes to a host that has not tried it; where every
host has, a failure of the job itself is final, and one that took the host down is tried again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .jobs import Job


@dataclass(eq=False)
class Attempt:
    """A job with what was tried so far."""

    job: Job
    tried: list[str] = field(default_factory=list)
    """The hosts that failed at it, in order."""
    errors: list[str] = field(default_factory=list)
    host_ended: bool = False
    """Whether the last failure was the host's end."""


class Board:
    """Jobs that wait, run, are done or have failed, and the hosts that are there."""

    def __init__(self, jobs: Sequence[Job], retries: int) -> None:
        """`retries`: how often a job that failed is tried again."""
        self.waiting = [Attempt(job) for job in jobs]
        self.running: dict[str, Attempt] = {}
        """By the name of their host."""
        self.hosts: set[str] = set()
        self.done = 0
        self.failed: list[Attempt] = []
        self._tries = retries + 1

    @property
    def finished(self) -> bool:
        """Whether no job waits or runs."""
        return not self.waiting and not self.running

    def join(self, host: str) -> None:
        """A host is there, or will be."""
        self.hosts.add(host)

    def leave(self, host: str) -> list[Attempt]:
        """A host is gone for good. Returns jobs that fail by that: no other one is left to try."""
        self.hosts.discard(host)
        return self._sort_out()

    def take(self, host: str) -> Attempt | None:
        """The next job for a host, which then runs; None while there is none for it."""
        for attempt in self.waiting:
            if host not in attempt.tried or self._may_repeat(attempt):
                self.waiting.remove(attempt)
                self.running[host] = attempt
                return attempt
        return None

    def finish(self, host: str) -> None:
        """A host's job is done."""
        del self.running[host]
        self.done += 1

    def give_back(self, host: str, error: str, host_ended: bool) -> list[Attempt]:
        """A host failed at its job. Returns the jobs that have failed for good by that."""
        attempt = self.running.pop(host)
        attempt.tried.append(host)
        attempt.errors.append(error)
        attempt.host_ended = host_ended
        # Before the others, so that frames stay in order as far as can be.
        self.waiting.insert(0, attempt)
        return self._sort_out()

    def put_back(self, host: str) -> None:
        """A host gives its job back untried."""
        self.waiting.insert(0, self.running.pop(host))

    def _may_repeat(self, attempt: Attempt) -> bool:
        return attempt.host_ended and self.hosts <= set(attempt.tried)

    def _sort_out(self) -> list[Attempt]:
        """Move what waits in vain to the failed ones."""
        vain = [attempt for attempt in self.waiting if self._in_vain(attempt)]
        self.waiting = [attempt for attempt in self.waiting if attempt not in vain]
        self.failed += vain
        return vain

    def _in_vain(self, attempt: Attempt) -> bool:
        if len(attempt.tried) >= self._tries:
            return True
        # Without any host left, what waits is not failed but left undone.
        everybody = bool(self.hosts) and self.hosts <= set(attempt.tried)
        return bool(attempt.tried) and everybody and not attempt.host_ended
