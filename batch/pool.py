"""Runs jobs over servers: a thread for each, which takes jobs from the board until none is left.

Servers may join while it runs. One that ends is started again; one that does not start, or ends
several times without a job done between, is left out.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from .board import Attempt, Board
from .errors import JobFailedError, ServerGoneError
from .jobs import Job
from .outputs import Output
from .servers import SentFile
from .workflow import Prompt

ENDS_IN_A_ROW = 3
"""A server that ended so often without a job done between is left out."""

FAILURES_IN_A_ROW = 2
"""A server that worked and then failed at so many jobs is started anew: its device may be lost."""

LOOK_SECONDS = 3.0
"""How often new servers are looked for."""


Kept = TypeVar("Kept")
"""What a watcher makes of a job's results before it is told that the job is done."""


class PoolMember(Protocol):
    """A server, wherever it runs."""

    name: str

    def start(self) -> None:
        """Start it, or start it again. Raises `ServerGoneError`."""

    def run_prompt(self, prompt: Prompt, files: Sequence[SentFile], timeout: float) -> list[Output]:
        """Run one prompt. Raises `JobFailedError` and `ServerGoneError`."""

    def stop(self) -> None:
        """End it, also while it starts or runs."""


class Watcher(Protocol[Kept]):
    """Who is told what happens; but for `keep`, calls come one at a time."""

    def keep(self, job: Job, outputs: Sequence[Output]) -> Kept:
        """Put results aside, perhaps of several servers at once. An `OSError` ends the batch."""

    def done(self, job: Job, kept: Kept, server: str, tries: int) -> None:
        """A job is done, with what `keep` answered. An `OSError` ends the batch."""

    def failed(self, attempt: Attempt) -> None:
        """A job failed for good."""

    def retried(self, job: Job, server: str, error: str) -> None:
        """A job failed on a server, and is tried again."""

    def joined(self, server: str) -> None:
        """A server is ready."""

    def left(self, server: str, error: str) -> None:
        """A server is out."""


class Pool(Generic[Kept]):
    def __init__(
        self,
        board: Board,
        members: Callable[[], Sequence[PoolMember]],
        watcher: Watcher[Kept],
        timeout: float,
    ) -> None:
        """`members` answers those that were not answered before, and is asked again and again.

        `timeout`: seconds that a server may take for one prompt.
        """
        self._board = board
        self._members = members
        self._watcher = watcher
        self._timeout = timeout
        self._changed = threading.Condition()
        self._threads: dict[str, tuple[PoolMember, threading.Thread]] = {}
        self._alive = 0
        """Servers that start or run."""
        self._closed = False
        self._error: BaseException | None = None

    def run_jobs(self, patience: float = 0.0) -> None:
        """Run until no job is left, or no server was there for `patience` seconds.

        Raises what the watcher raised. An interrupt stops every server and goes on.
        """
        try:
            without = 0.0
            while without <= patience:
                self._look()
                with self._changed:
                    if self._board.finished or self._error is not None:
                        break
                    if self._alive:
                        without = 0.0
                        self._changed.wait(LOOK_SECONDS)
                        continue
                    self._changed.wait(min(LOOK_SECONDS, patience) or 0.01)
                    without += LOOK_SECONDS
        finally:
            self._close()
        if self._error is not None:
            raise self._error

    def _look(self) -> None:
        new = self._members()
        with self._changed:
            # All before the first one works: a job that fails there must find the others.
            for member in new:
                self._alive += 1
                self._board.join(member.name)
        for member in new:
            thread = threading.Thread(
                target=self._serve, args=(member,), name=f"server {member.name}", daemon=True
            )
            self._threads[member.name] = (member, thread)
            thread.start()

    def _close(self) -> None:
        """Stop every server, all at once, and wait for their threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        stops = [
            threading.Thread(target=member.stop, daemon=True)
            for member, _ in self._threads.values()
        ]
        for stop in stops:
            stop.start()
        for thread in (*stops, *(thread for _, thread in self._threads.values())):
            thread.join()

    def _serve(self, member: PoolMember) -> None:
        why = ""
        try:
            why = self._start_and_work(member)
        except BaseException as error:  # noqa: BLE001 (it is raised in the thread of `run_jobs`)
            with self._changed:
                self._error = self._error or error
        with self._changed:
            self._alive -= 1
            failed = self._board.leave(member.name)
            if not self._closed:
                if why:
                    self._watcher.left(member.name, why)
                self._tell_failed(failed)
            self._changed.notify_all()

    def _start_and_work(self, member: PoolMember) -> str:
        """Serve until nothing is left to do; returns why it was given up before that, or ""."""
        ends = 0
        while True:
            try:
                member.start()
                with self._changed:
                    if self._closed:
                        return ""
                    self._watcher.joined(member.name)
                    self._changed.notify_all()
                worked = False
                failures = 0
                while (attempt := self._take(member.name)) is not None:
                    done = self._work(member, attempt)
                    ends = 0
                    worked = worked or done
                    failures = 0 if done else failures + 1
                    if worked and failures == FAILURES_IN_A_ROW:
                        break
                else:
                    return ""
            except ServerGoneError as error:
                ends += 1
                if ends >= ENDS_IN_A_ROW or self._closed:
                    return str(error)

    def _take(self, name: str) -> Attempt | None:
        with self._changed:
            while not self._closed and not self._board.finished:
                attempt = self._board.take(name)
                if attempt is not None:
                    return attempt
                self._changed.wait()
            return None

    def _work(self, member: PoolMember, attempt: Attempt) -> bool:
        """Run one job; returns whether it was done."""
        job = attempt.job
        try:
            files = [
                SentFile(target.node, target.input, path.suffix.lower(), path.read_bytes())
                for target, path in job.files.items()
            ]
            outputs = member.run_prompt(job.prompt, files, self._timeout)
        except (JobFailedError, ServerGoneError) as error:
            self._give_back(member.name, job, error)
            if isinstance(error, ServerGoneError):
                raise
            return False
        kept = self._watcher.keep(job, outputs)
        with self._changed:
            if self._closed:
                return True
            self._watcher.done(job, kept, member.name, len(attempt.tried) + 1)
            self._board.finish(member.name)
            self._changed.notify_all()
        return True

    def _give_back(self, server: str, job: Job, error: Exception) -> None:
        with self._changed:
            if self._closed:
                return
            failed = self._board.give_back(server, str(error), isinstance(error, ServerGoneError))
            if job not in [attempt.job for attempt in failed]:
                self._watcher.retried(job, server, str(error))
            self._tell_failed(failed)
            self._changed.notify_all()

    def _tell_failed(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self._watcher.failed(attempt)
