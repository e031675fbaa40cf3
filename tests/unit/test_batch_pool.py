"""Jobs over hosts that fail, end, come late or hang: each is done once, and failures are told."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from comfyui_ipex.batch import pool
from comfyui_ipex.batch.board import Attempt, Board
from comfyui_ipex.batch.conducting import TimeLeft, format_duration
from comfyui_ipex.batch.errors import JobFailedError, ServerGoneError
from comfyui_ipex.batch.jobs import Job
from comfyui_ipex.batch.outputs import Output
from comfyui_ipex.batch.pool import Pool
from comfyui_ipex.batch.servers import SentFile

WAIT_SECONDS = 60.0


class Toy:
    """A host that does what `behave` says with the number of a job."""

    def __init__(self, name: str, behave: Callable[[int], None] = lambda number: None) -> None:
        self.name = name
        self.starts = 0
        self.ran: list[int] = []
        self.stopped = threading.Event()
        self._behave = behave

    def start(self) -> None:
        self.starts += 1

    def run_prompt(
        self, prompt: Mapping[str, Any], files: Sequence[SentFile], timeout: float
    ) -> list[Output]:
        self.ran.append(prompt["number"])
        self._behave(prompt["number"])
        return [Output("8", "x.png", str(prompt["number"]).encode())]

    def stop(self) -> None:
        self.stopped.set()


class Notes:
    """What a pool told."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str]] = []
        self.failures: list[Attempt] = []
        self.again: list[tuple[str, str]] = []
        self.gone: list[str] = []

    def keep(self, job: Job, outputs: Sequence[Output]) -> bytes:
        return outputs[0].data

    def done(self, job: Job, kept: bytes, host: str, tries: int) -> None:
        assert job.name == f"job {kept.decode()}"
        self.results.append((job.name, host))

    def failed(self, attempt: Attempt) -> None:
        self.failures.append(attempt)

    def retried(self, job: Job, host: str, error: str) -> None:
        self.again.append((job.name, host))

    def joined(self, host: str) -> None:
        pass

    def left(self, host: str, error: str) -> None:
        self.gone.append(host)


def jobs(count: int) -> list[Job]:
    return [Job(f"job {number}", {"number": number}) for number in range(count)]


def once(*members: Toy) -> Callable[[], Sequence[Toy]]:
    """Members that are there from the beginning."""
    new = [list(members), []]
    return lambda: new.pop(0) if len(new) > 1 else new[0]


def failing(*numbers: int) -> Callable[[int], None]:
    def behave(number: int) -> None:
        if number in numbers:
            raise JobFailedError("out of memory")

    return behave


def run(count: int, retries: int, *members: Toy) -> Notes:
    notes = Notes()
    Pool(Board(jobs(count), retries), once(*members), notes, 1.0).run_jobs()
    assert all(member.stopped.is_set() for member in members)
    return notes


def test_every_job_is_done_once_and_all_hosts_have_a_part() -> None:
    together = threading.Barrier(2)

    def behave(number: int) -> None:
        if number < 2:
            together.wait(WAIT_SECONDS)

    one, two = Toy("one", behave), Toy("two", behave)
    notes = run(20, 0, one, two)
    assert sorted(name for name, _ in notes.results) == sorted(job.name for job in jobs(20))
    assert one.ran
    assert two.ran
    assert one.ran == sorted(one.ran)


def test_a_job_that_fails_on_one_host_is_done_by_another() -> None:
    small, large = Toy("small", failing(*range(6))), Toy("large")
    notes = run(6, 2, small, large)
    assert [host for _, host in notes.results] == ["large"] * 6
    assert len(set(small.ran)) == len(small.ran)
    assert notes.again == [(f"job {number}", "small") for number in small.ran]


def test_a_job_that_fails_everywhere_fails_and_the_others_are_done() -> None:
    one, two = Toy("one", failing(1)), Toy("two", failing(1))
    notes = run(4, 5, one, two)
    assert sorted(name for name, _ in notes.results) == ["job 0", "job 2", "job 3"]
    (failed,) = notes.failures
    assert (failed.job.name, set(failed.tried)) == ("job 1", {"one", "two"})
    assert failed.errors == ["out of memory"] * 2


def test_retries_bound_how_many_hosts_a_bad_job_may_try() -> None:
    members = [Toy(f"host {number}", failing(0)) for number in range(4)]
    notes = run(1, 1, *members)
    assert len(notes.failures[0].tried) == 2


def test_a_host_that_ends_is_started_again_and_its_job_is_for_another() -> None:
    ended = threading.Event()

    def end(number: int) -> None:
        if not ended.is_set():
            ended.set()
            raise ServerGoneError("killed")

    frail = Toy("frail", end)
    solid = Toy("solid", lambda number: ended.wait(WAIT_SECONDS) and None)
    notes = run(6, 2, frail, solid)
    assert len(notes.results) == 6
    assert frail.starts == 2
    (again,) = notes.again
    assert again[1] == "frail"
    assert (again[0], "solid") in notes.results


def test_the_only_host_tries_again_what_ended_it_but_not_forever() -> None:
    ends = iter([True, False])

    def sometimes(number: int) -> None:
        if number == 1 and next(ends):
            raise ServerGoneError("killed")

    assert len(run(3, 2, Toy("one", sometimes)).results) == 3

    def always(number: int) -> None:
        if number == 1:
            raise ServerGoneError("killed")

    notes = run(3, 1, Toy("one", always))
    assert sorted(name for name, _ in notes.results) == ["job 0", "job 2"]
    assert [attempt.job.name for attempt in notes.failures] == ["job 1"]


def test_a_host_that_keeps_ending_is_left_out_and_what_is_left_is_not_called_failed() -> None:
    def always(number: int) -> None:
        raise ServerGoneError("killed")

    host = Toy("one", always)
    notes = run(9, 9, host)
    assert host.starts == pool.ENDS_IN_A_ROW
    assert notes.gone == ["one"]
    assert notes.results == []
    assert notes.failures == []


def test_a_host_that_worked_and_then_fails_at_everything_is_started_anew() -> None:
    class Sick(Toy):
        def run_prompt(
            self, prompt: Mapping[str, Any], files: Sequence[SentFile], timeout: float
        ) -> list[Output]:
            if self.starts == 1 and self.ran:
                self.ran.append(prompt["number"])
                raise JobFailedError("device lost")
            return super().run_prompt(prompt, files, timeout)

    host = Sick("one")
    notes = run(8, 0, host)
    assert host.starts == 2
    assert [attempt.job.name for attempt in notes.failures] == ["job 1", "job 2"]
    assert len(notes.results) == 6


def test_a_host_that_never_worked_is_not_started_again_and_again() -> None:
    host = Toy("one", failing(*range(8)))
    assert len(run(8, 0, host).failures) == 8
    assert host.starts == 1


def test_a_host_that_comes_later_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.01)
    late_ran = threading.Event()
    early = Toy("early", lambda number: late_ran.wait(WAIT_SECONDS) and None)
    late = Toy("late", lambda number: late_ran.set())
    calls = iter([[early], [], [late]])
    notes = Notes()
    Pool(Board(jobs(5), 0), lambda: next(calls, []), notes, 1.0).run_jobs()
    assert len(notes.results) == 5
    assert late.ran


def test_without_hosts_a_pool_waits_as_long_as_it_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.01)
    looked: list[int] = []
    notes = Notes()
    Pool(Board(jobs(1), 0), lambda: looked.append(1) or [], notes, 1.0).run_jobs(0.05)
    assert len(looked) > 3
    assert notes.results == []


def test_an_error_while_writing_ends_the_run_and_every_host() -> None:
    class Full(Notes):
        def keep(self, job: Job, outputs: Sequence[Output]) -> bytes:
            raise OSError("no space left")

    host = Toy("one")
    with pytest.raises(OSError, match="no space left"):
        Pool(Board(jobs(3), 0), once(host), Full(), 1.0).run_jobs()
    assert host.stopped.is_set()
    assert len(host.ran) == 1


def test_an_interrupt_stops_hosts_that_run_and_leaves_their_jobs_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = threading.Event()
    host = Toy("one")

    def hang(number: int) -> None:
        runs.set()
        assert host.stopped.wait(WAIT_SECONDS)
        raise ServerGoneError("stopped")

    host._behave = hang
    notes = Notes()
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.01)

    def members() -> Sequence[Toy]:
        if runs.is_set():
            raise KeyboardInterrupt
        return [] if host.starts else [host]

    watched = Pool(Board(jobs(2), 0), members, notes, 1.0)
    with pytest.raises(KeyboardInterrupt):
        watched.run_jobs()
    assert (notes.results, notes.failures, notes.again) == ([], [], [])


def test_jobs_that_failed_go_first_so_that_frames_stay_in_order() -> None:
    board = Board(jobs(3), 2)
    board.join("one")
    board.join("two")
    first = board.take("one")
    assert first is not None
    board.give_back("one", "killed", server_ended=True)
    taken = board.take("two")
    assert taken is first
    other = board.take("one")
    assert other is not None
    assert other.job.name == "job 1"


def test_time_left_follows_the_pace_and_does_not_shrink_while_nothing_happens() -> None:
    left = TimeLeft(0.0)
    assert left.seconds(10, 5.0) is None
    left.note(10.0)
    assert left.seconds(3, 10.0) == pytest.approx(30.0)
    left.note(20.0)
    assert left.seconds(2, 20.0) == pytest.approx(20.0)
    assert (left.seconds(2, 60.0) or 0) > 30.0
    for now in range(200):
        left.note(20.0 + now)
    assert left.seconds(10, 219.0) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (187, "3:07 min"), (7500, "2:05 h"), (273600, "3 d 4 h")],
)
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
