"""Outcomes of pytest tests, and which of two runs of a suite went worse."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

Outcomes = dict[str, str]
"""Test -> "passed", "skipped" or "failed"."""

# From worst to best. A test is absent when its module could not be imported, for example.
RANKS = ("absent", "failed", "skipped", "passed")


def read_junit(report: Path) -> Outcomes:
    """The outcomes in a report that pytest's --junitxml wrote; none if there is no report.

    A test with several entries (its clean-up failed, too) has the worst of them.
    """
    found: Outcomes = {}
    if not report.exists():
        return found
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome = "passed"
        if case.find("skipped") is not None:
            outcome = "skipped"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
        found[name] = min(found.get(name, outcome), outcome, key=RANKS.index)
    return found


def imperfect(outcomes: Outcomes) -> list[str]:
    """The tests that did not pass."""
    return [name for name, outcome in outcomes.items() if outcome != "passed"]


def worse(seen: Mapping[str, str], expected: Mapping[str, str]) -> dict[str, str]:
    """The tests that went worse than `expected`, each with how: "passed -> failed".

    A test that only the first run knows is expected to pass: it may stand for a module whose
    import failed, and then the tests of that module are absent.
    """
    found = {}
    for name in {**expected, **seen}:
        now, then = seen.get(name, "absent"), expected.get(name, "passed")
        if RANKS.index(now) < RANKS.index(then):
            found[name] = f"{then} -> {now}"
    return found


def describe(outcomes: Outcomes) -> str:
    """How many tests had which outcome: "158 passed, 2 failed"."""
    values = list(outcomes.values())
    counts = [(values.count(outcome), outcome) for outcome in reversed(RANKS)]
    return ", ".join(f"{count} {outcome}" for count, outcome in counts if count) or "no test ran"
