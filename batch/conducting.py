"""One batch from beginning to end: what is to be done, the servers, and what is said meanwhile."""

import argparse
import collections
import datetime
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..launcher.console import say, step, warn
from . import manifest, outputs, video
from .board import Attempt, Board
from .errors import BatchInputError
from .jobs import Job, find_frames, frame_jobs
from .manifest import DONE, FAILED, Manifest, ManifestRow
from .outputs import Output, Staged
from .pool import Pool, PoolMember
from .table import read_table
from .workflow import Workflow

SAY_SECONDS = 1.0
"""The least between two lines of progress."""

VIDEOS = (".mp4", ".mkv", ".mov")

CLUSTER_PATIENCE_SECONDS = 60.0
"""How long a batch waits for a machine where a cluster has none."""


class TimeLeft:
    """An estimate from the pace of the last jobs, so that a server that joins or leaves counts."""

    WINDOW = 50

    def __init__(self, began: float) -> None:
        """`began`: seconds of a clock that never goes back; the same clock gives `note` its."""
        self._marks: collections.deque[float] = collections.deque([began], maxlen=self.WINDOW + 1)

    def note(self, now: float) -> None:
        self._marks.append(now)

    def seconds(self, remaining: int, now: float) -> float | None:
        """Seconds until `remaining` jobs are done; None before the first one was."""
        jobs = len(self._marks) - 1
        if not jobs:
            return None
        # Waiting for a job that takes longer than its share must not look like progress.
        spent = max(self._marks[-1] - self._marks[0], (now - self._marks[0]) * jobs / (jobs + 1))
        return remaining * spent / jobs


def format_duration(seconds: float) -> str:
    """Seconds as people write them: "42 s", "3:07 min", "2:05 h", "3 d 4 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}:{minutes % 60:02} h"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


class Journal:
    """Writes results and the manifest, and tells the user: the pool's `Watcher`."""

    def __init__(self, folder: Path, record: Manifest, total: int, missing: int) -> None:
        """`total`: jobs of the batch, of which `missing` are to be done now."""
        self.folder = folder
        self.done_now = 0
        self.failed_now = 0
        self._record = record
        self._total = total
        self._missing = missing
        self._servers: set[str] = set()
        self._left: TimeLeft | None = None
        """From the first server on: what it takes to start says nothing about jobs."""
        self._said = 0.0

    def keep(self, job: Job, made: Sequence[Output]) -> Staged:
        """Write a job's results beside their place. Raises `OSError`."""
        return outputs.stage(self.folder, job.name, made)

    def done(self, job: Job, kept: Staged, server: str, tries: int) -> None:
        """Write a job's line, put its results in their place, and tell. Raises `OSError`."""
        self._add(job, DONE, {"host": server, "tries": tries, "files": kept.files})
        kept.place()
        self.done_now += 1
        self._tell(f"{job.name} on {server}")

    def failed(self, attempt: Attempt) -> None:
        tried = [list(pair) for pair in zip(attempt.tried, attempt.errors, strict=True)]
        self._add(attempt.job, FAILED, {"tries": len(tried), "errors": tried})
        self.failed_now += 1
        warn(f"{attempt.job.name} failed on {', '.join(attempt.tried)}: {attempt.errors[-1]}")
        self._tell(attempt.job.name)

    def retried(self, job: Job, server: str, error: str) -> None:
        warn(f"{job.name} failed on {server} and is tried again: {error}")

    def joined(self, server: str) -> None:
        self._left = self._left or TimeLeft(time.monotonic())
        self._servers.add(server)
        say(f"   {server} is ready ({len(self._servers)} in all)")

    def left(self, server: str, error: str) -> None:
        self._servers.discard(server)
        warn(f"{server} is left out: {error}")

    def _add(self, job: Job, status: str, facts: ManifestRow) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        row: ManifestRow = {"job": job.name, "status": status, "digest": job.digest}
        self._record.add({**row, **facts, "time": now.isoformat(timespec="seconds")})

    def _tell(self, what: str) -> None:
        now = time.monotonic()
        remaining = self._missing - self.done_now - self.failed_now
        left = None
        if self._left is not None:
            self._left.note(now)
            left = self._left.seconds(remaining, now)
        if remaining and now - self._said < SAY_SECONDS:
            return
        self._said = now
        at = self._total - remaining
        rest = f", {format_duration(left)} left" if left is not None and remaining else ""
        say(f"{at}/{self._total} {what}{rest}")


@dataclass(frozen=True)
class JobList:
    jobs: Sequence[Job]
    moving: Path | None = None
    """The video or animated picture whose frames the jobs are."""
    rate: Fraction | None = None
    """Its frames a second, if it tells."""


def run_batch(arguments: argparse.Namespace, for_servers: Sequence[str]) -> int:
    """Run a batch; returns 0, or 1 if jobs failed or are missing. Raises `BatchInputError`."""
    workflow = Workflow.read(arguments.workflow)
    folder = (arguments.output or default_output(arguments)).expanduser().resolve()
    with outputs.hold_folder(folder):
        work = _work(arguments, workflow, folder)
        rate = _rate(arguments, work)
        todo, taken = outputs.find_missing(work.jobs, manifest.read_manifest(folder), folder)
        if taken:
            raise BatchInputError(
                f"{folder} holds {len(taken)} results that other jobs made, or that are not "
                f"whole ({', '.join(taken[:5])}{', ...' if len(taken) > 5 else ''}). Nothing is "
                "overwritten: choose another --output, or remove them."
            )
        if todo and arguments.video and arguments.video.exists():
            raise BatchInputError(f"{arguments.video} is there already, and is not overwritten.")
        say(f"{len(work.jobs)} jobs, of which {len(todo)} are to be done; results go to {folder}")
        if arguments.dry_run:
            for job in todo:
                say(f"   {job.name}")
            return 0
        if todo and _run(arguments, for_servers, folder, len(work.jobs), todo):
            return 1
        if arguments.video and not arguments.video.exists() and rate is not None:
            _join(work, folder, arguments.video, rate)
        video.forget_frames(folder / outputs.WORK)
        return 0


def default_output(arguments: argparse.Namespace) -> Path:
    """A folder for results, below the one that the user is in, that tells what they are of."""
    source = Path(arguments.table or arguments.frames)
    if "*" in source.name or "?" in source.name:
        source = source.parent
    return Path(f"{source.stem or 'frames'}-results")


def _work(arguments: argparse.Namespace, workflow: Workflow, folder: Path) -> JobList:
    if arguments.table:
        return JobList(read_table(arguments.table, workflow))
    source = Path(arguments.frames).expanduser()
    if not (source.is_file() and video.is_moving(source)):
        return JobList(frame_jobs(workflow, find_frames(arguments.frames), arguments.frames_input))
    frames, rate = video.unpack(source, folder / outputs.WORK)
    return JobList(frame_jobs(workflow, frames, arguments.frames_input), source, rate)


def _rate(arguments: argparse.Namespace, work: JobList) -> Fraction | None:
    """The frames a second of the video to be made; None if none is."""
    if arguments.video is None:
        return None
    if arguments.table:
        raise BatchInputError("--video joins frames: it goes with --frames, not with --table.")
    if arguments.video.suffix.lower() not in VIDEOS or not arguments.video.parent.is_dir():
        raise BatchInputError(
            f"{arguments.video} cannot be written: a video is a file {' '.join(VIDEOS)} in a "
            "folder that exists."
        )
    rate = Fraction(arguments.rate).limit_denominator(1001) if arguments.rate else work.rate
    if rate is None or rate <= 0:
        raise BatchInputError("Say how many frames a second the video has: --rate FPS.")
    return rate


def _join(work: JobList, folder: Path, target: Path, rate: Fraction) -> None:
    known = manifest.read_manifest(folder)
    made = []
    for job in work.jobs:
        files = known[job.name]["files"]
        if len(files) != 1:
            raise BatchInputError(
                f"{job.name} gave {len(files)} pictures; a frame of a video is one."
            )
        made.append(folder / files[0]["name"])
    with step(f"Joining {len(made)} frames into {target}"):
        video.join_frames(made, target, rate, work.moving)


def _run(
    arguments: argparse.Namespace,
    for_servers: Sequence[str],
    folder: Path,
    total: int,
    todo: Sequence[Job],
) -> bool:
    """Do the missing jobs; returns whether some failed or are left undone."""
    began = time.monotonic()
    with ExitStack() as stack:
        record = stack.enter_context(manifest.open_manifest(folder))
        journal = Journal(folder, record, total, len(todo))
        members, patience = _members(arguments, for_servers, stack)
        board = Board(todo, arguments.retries)
        try:
            Pool(board, members, journal, arguments.timeout).run_jobs(patience)
        except OSError as error:
            raise BatchInputError(
                f"The batch stopped, because a file could not be read or written: {error}. What "
                "is finished is kept; the same command does the rest."
            ) from error
    undone = len(todo) - journal.done_now - journal.failed_now
    say(
        f"{journal.done_now} done, {journal.failed_now} failed, {undone} left undone in "
        f"{format_duration(time.monotonic() - began)}"
    )
    if undone:
        warn("No server is left to do the rest. The same command resumes.")
    return bool(undone or journal.failed_now)


def _members(
    arguments: argparse.Namespace, for_servers: Sequence[str], stack: ExitStack
) -> tuple[Callable[[], Sequence[PoolMember]], float]:
    """Who answers new servers, and how long to wait for one."""
    if arguments.address:
        from .cluster import Cluster

        cluster = Cluster(arguments.address, arguments.token_file)
        stack.callback(cluster.close)
        return cluster.find_servers, CLUSTER_PATIENCE_SECONDS
    from .plans import plan_servers
    from .servers import BatchServer

    planned = plan_servers(arguments.host, arguments.devices, for_servers)
    servers = [BatchServer(plan) for plan in planned]
    say(f"Starting servers on {', '.join(server.name for server in servers)}")

    def once() -> list[BatchServer]:
        new = list(servers)
        servers.clear()
        return new

    return once, 0.0
