"""One batch from beginning to end: what is to be done, the hosts, and what is said meanwhile."""

import argparse
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
from .errors import InputError
from .frames import find_frames, frame_jobs
from .jobs import Job
from .manifest import DONE, FAILED, Manifest
from .outputs import Output, Staged
from .pool import Member, Pool
from .progress import TimeLeft, duration
from .table import read_table
from .workflow import Workflow

SAY_SECONDS = 1.0
"""The least between two lines of progress."""

VIDEOS = (".mp4", ".mkv", ".mov")

CLUSTER_PATIENCE_SECONDS = 60.0
"""How long a batch waits for a node where a cluster has none."""


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
        self._hosts: set[str] = set()
        self._left: TimeLeft | None = None
        """From the first host on: what it takes to start says nothing about jobs."""
        self._said = 0.0

    def keep(self, job: Job, made: Sequence[Output]) -> Staged:
        """Write a job's results beside their place. Raises `OSError`."""
        return outputs.stage(self.folder, job.name, made)

    def done(self, job: Job, kept: Staged, host: str, tries: int) -> None:
        """Write a job's line, put its results in their place, and tell. Raises `OSError`."""
        self._add(job, DONE, host=host, tries=tries, files=kept.files)
        kept.place()
        self.done_now += 1
        self._tell(f"{job.name} on {host}")

    def failed(self, attempt: Attempt) -> None:
        """A job failed for good."""
        tried = [list(pair) for pair in zip(attempt.tried, attempt.errors, strict=True)]
        self._add(attempt.job, FAILED, tries=len(tried), errors=tried)
        self.failed_now += 1
        warn(f"{attempt.job.name} failed on {', '.join(attempt.tried)}: {attempt.errors[-1]}")
        self._tell(attempt.job.name)

    def retried(self, job: Job, host: str, error: str) -> None:
        """A job is tried again."""
        warn(f"{job.name} failed on {host} and is tried again: {error}")

    def joined(self, host: str) -> None:
        """A host is ready."""
        self._left = self._left or TimeLeft(time.monotonic())
        self._hosts.add(host)
        say(f"   {host} is ready ({len(self._hosts)} in all)")

    def left(self, host: str, error: str) -> None:
        """A host is out."""
        self._hosts.discard(host)
        warn(f"{host} is left out: {error}")

    def _add(self, job: Job, status: str, **facts: object) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        row = {"job": job.name, "status": status, "digest": job.digest}
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
        rest = f", {duration(left)} left" if left is not None and remaining else ""
        say(f"{at}/{self._total} {what}{rest}")


@dataclass(frozen=True)
class Work:
    """What a batch has to do in all."""

    jobs: Sequence[Job]
    moving: Path | None = None
    """The video or animated picture whose frames the jobs are."""
    rate: Fraction | None = None
    """Its frames a second, if it tells."""


def batch(arguments: argparse.Namespace, for_host: Sequence[str]) -> int:
    """Run a batch; returns 0, or 1 if jobs failed or are missing. Raises `InputError`."""
    workflow = Workflow.read(arguments.workflow)
    folder = (arguments.output or default_output(arguments)).expanduser().resolve()
    with outputs.held(folder):
        work = _work(arguments, workflow, folder)
        rate = _rate(arguments, work)
        todo, taken = outputs.missing(work.jobs, manifest.read(folder), folder)
        if taken:
            raise InputError(
                f"{folder} holds {len(taken)} results that other jobs made, or that are not "
                f"whole ({', '.join(taken[:5])}{', ...' if len(taken) > 5 else ''}). Nothing is "
                "overwritten: choose another --output, or remove them."
            )
        if todo and arguments.video and arguments.video.exists():
            raise InputError(f"{arguments.video} is there already, and is not overwritten.")
        say(f"{len(work.jobs)} jobs, of which {len(todo)} are to be done; results go to {folder}")
        if arguments.dry_run:
            for job in todo:
                say(f"   {job.name}")
            return 0
        if todo and _run(arguments, for_host, folder, len(work.jobs), todo):
            return 1
        if arguments.video and not arguments.video.exists() and rate is not None:
            _join(work, folder, arguments.video, rate)
        video.forget(folder / outputs.WORK)
        return 0


def default_output(arguments: argparse.Namespace) -> Path:
    """A folder for results, below the one that the user is in, that tells what they are of."""
    source = Path(arguments.table or arguments.frames)
    if "*" in source.name or "?" in source.name:
        source = source.parent
    return Path(f"{source.stem or 'frames'}-results")


def _work(arguments: argparse.Namespace, workflow: Workflow, folder: Path) -> Work:
    if arguments.table:
        return Work(read_table(arguments.table, workflow))
    source = Path(arguments.frames).expanduser()
    if not (source.is_file() and video.is_moving(source)):
        return Work(frame_jobs(workflow, find_frames(arguments.frames), arguments.frames_input))
    frames, rate = video.unpacked(source, folder / outputs.WORK)
    return Work(frame_jobs(workflow, frames, arguments.frames_input), source, rate)


def _rate(arguments: argparse.Namespace, work: Work) -> Fraction | None:
    """The frames a second of the video to be made; None if none is."""
    if arguments.video is None:
        return None
    if arguments.table:
        raise InputError("--video joins frames: it goes with --frames, not with --table.")
    if arguments.video.suffix.lower() not in VIDEOS or not arguments.video.parent.is_dir():
        raise InputError(
            f"{arguments.video} cannot be written: a video is a file {' '.join(VIDEOS)} in a "
            "folder that exists."
        )
    rate = Fraction(arguments.rate).limit_denominator(1001) if arguments.rate else work.rate
    if rate is None or rate <= 0:
        raise InputError("Say how many frames a second the video has: --rate FPS.")
    return rate


def _join(work: Work, folder: Path, target: Path, rate: Fraction) -> None:
    known = manifest.read(folder)
    made = []
    for job in work.jobs:
        files = known[job.name]["files"]
        if len(files) != 1:
            raise InputError(f"{job.name} gave {len(files)} pictures; a frame of a video is one.")
        made.append(folder / files[0]["name"])
    with step(f"Joining {len(made)} frames into {target}"):
        video.joined(made, target, rate, work.moving)


def _run(
    arguments: argparse.Namespace,
    for_host: Sequence[str],
    folder: Path,
    total: int,
    todo: Sequence[Job],
) -> bool:
    """Do the missing jobs; returns whether some failed or are left undone."""
    began = time.monotonic()
    with ExitStack() as stack:
        record = stack.enter_context(manifest.appending(folder))
        journal = Journal(folder, record, total, len(todo))
        members, patience = _members(arguments, for_host, stack)
        board = Board(todo, arguments.retries)
        try:
            Pool(board, members, journal, arguments.timeout).run(patience)
        except OSError as error:
            raise InputError(
                f"The batch stopped, because a file could not be read or written: {error}. What "
                "is finished is kept; the same command does the rest."
            ) from error
    undone = len(todo) - journal.done_now - journal.failed_now
    say(
        f"{journal.done_now} done, {journal.failed_now} failed, {undone} left undone in "
        f"{duration(time.monotonic() - began)}"
    )
    if undone:
        warn("No host is left to do the rest. The same command resumes.")
    return bool(undone or journal.failed_now)


def _members(
    arguments: argparse.Namespace, for_host: Sequence[str], stack: ExitStack
) -> tuple[Callable[[], Sequence[Member]], float]:
    """Who answers new hosts, and how long to wait for one."""
    if arguments.address:
        from .cluster import Cluster

        cluster = Cluster(arguments.address, arguments.token_file)
        stack.callback(cluster.close)
        return cluster.members, CLUSTER_PATIENCE_SECONDS
    from .hosting import Host
    from .plans import plans

    hosts = [Host(plan) for plan in plans(arguments.host, arguments.devices, for_host)]
    say(f"Starting hosts on {', '.join(host.name for host in hosts)}")

    def once() -> list[Host]:
        new = list(hosts)
        hosts.clear()
        return new

    return once, 0.0
