"""What a commit's tests take of what takes long: the same each time, and everything in its turn."""

from pathlib import Path

import pytest
import sampling

CASES = tuple("abcdefgh")


@pytest.fixture(autouse=True)
def nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SHARES", {})
    monkeypatch.setattr(sampling, "commit", lambda: "0")
    monkeypatch.setattr(sampling, "changed", lambda: frozenset())


def at(monkeypatch: pytest.MonkeyPatch, commit: int) -> tuple[str, ...]:
    monkeypatch.setattr(sampling, "commit", lambda: str(commit))
    return sampling.share("letters", CASES, 3)


def test_a_commit_always_takes_the_same_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = at(monkeypatch, 1)
    assert taken == at(monkeypatch, 1) == tuple(sorted(taken))
    assert len(taken) == 3


def test_every_case_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {case for commit in range(40) for case in at(monkeypatch, commit)} == set(CASES)


def test_what_always_runs_and_what_was_changed_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "changed", lambda: frozenset({"folder/g.json", "b.json"}))
    taken = sampling.share("letters", CASES, 2, ("d",), lambda case: f"folder/{case}.json")
    assert taken == ("d", "g")


def test_what_was_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling.share("digits", ("1", "2"), 2)
    assert sampling.lines() == []
    taken = at(monkeypatch, 1)
    assert sampling.lines() == [f"letters: 3 of 8: {', '.join(taken)}"]


def test_a_repository_is_asked_and_an_unpacked_archive_has_no_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sampling, "REPOSITORY", tmp_path)
    assert sampling.git("rev-parse", "HEAD") == ""
