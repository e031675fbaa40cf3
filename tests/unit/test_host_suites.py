"""When a run of ComfyUI's own tests counts as worse, and how they are started."""

import dataclasses
import subprocess
from pathlib import Path

import pytest
from comfyui_ipex.launcher.hosts import HostTree
from comfyui_ipex.tools import host_suites
from comfyui_ipex.tools.host_suites import (
    SUITES,
    HostSuite,
    Outcomes,
    SuiteStage,
    describe_outcomes,
    imperfect,
    read_junit,
    worse,
)
from conftest import REPOSITORY

REPORT = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure>no</failure></testcase>
<testcase classname="a" name="broken"><error>no</error></testcase>
<testcase classname="a" name="left out"><skipped/></testcase>
<testcase classname="b" name="untidy"/>
<testcase classname="b" name="untidy"><error>in its clean-up</error></testcase>
</testsuite></testsuites>"""


def test_outcomes_are_read_from_pytests_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    outcomes = read_junit(report)
    assert outcomes == {
        "a::good": "passed",
        "a::bad": "failed",
        "a::broken": "failed",
        "a::left out": "skipped",
        "b::untidy": "failed",
    }
    assert imperfect(outcomes) == ["a::bad", "a::broken", "a::left out", "b::untidy"]
    assert describe_outcomes(outcomes) == "1 passed, 1 skipped, 3 failed"


def test_a_run_without_a_report_has_no_outcomes(tmp_path: Path) -> None:
    assert read_junit(tmp_path / "report.xml") == {}
    assert describe_outcomes({}) == "no test ran"


@pytest.mark.parametrize(
    ("seen", "expected", "found"),
    [
        ({"t": "failed"}, {"t": "failed"}, {}),
        ({"t": "passed"}, {"t": "failed"}, {}),
        ({"t": "failed"}, {"t": "passed"}, {"t": "passed -> failed"}),
        ({"t": "skipped"}, {"t": "passed"}, {"t": "passed -> skipped"}),
        ({}, {"t": "passed"}, {"t": "passed -> absent"}),
        ({"module": "failed"}, {}, {"module": "passed -> failed"}),
    ],
)
def test_only_what_goes_worse_than_without_the_extension_is_found(
    seen: Outcomes, expected: Outcomes, found: dict[str, str]
) -> None:
    assert worse(seen, expected) == found


@pytest.fixture
def stage(tmp_path: Path) -> SuiteStage:
    """A stage for a tree that holds next to nothing."""
    tree = tmp_path / "tree"
    (tree / "custom_nodes").mkdir(parents=True)
    (tree / "tests-unit").mkdir()
    python = tmp_path / "interpreter"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    found = HostTree(tree, "0.3.47", "0.3.47", "cache", True)
    return SuiteStage(tmp_path / "stage", found, python, emulated=True)


GOOD = {"x": "passed", "y": "passed"}
BAD = {"x": "passed", "y": "failed"}


@pytest.mark.parametrize(
    ("extended", "bare", "loads", "runs", "verdict"),
    [
        ([GOOD], GOOD, True, [True], True),
        ([BAD], BAD, True, [True, False], True),
        ([BAD, BAD], GOOD, True, [True, False, True], False),
        ([BAD, GOOD], GOOD, True, [True, False, True], True),
        ([{}], {}, True, [True], False),
        ([{"x": "failed"}], {"x": "failed"}, True, [True], False),
        ([GOOD], GOOD, False, [True], False),
    ],
    ids=[
        "all pass",
        "the same test fails without",
        "a test fails with only",
        "a busy machine failed a test once",
        "nothing ran",
        "nothing passed",
        "the extension was not loaded",
    ],
)
def test_a_suite_is_judged_by_what_it_does_without_the_extension(
    stage: SuiteStage,
    monkeypatch: pytest.MonkeyPatch,
    extended: list[Outcomes],
    bare: Outcomes,
    loads: bool,
    runs: list[bool],
    verdict: bool,
) -> None:
    coming, seen = iter(extended), []

    def run(_stage: SuiteStage, _suite: HostSuite, extended: bool) -> Outcomes:
        seen.append(extended)
        return next(coming) if extended else bare

    monkeypatch.setattr(SuiteStage, "run_suite", run)
    monkeypatch.setattr(SuiteStage, "loaded", lambda _stage, _suite: loads)
    assert host_suites.check_suite(stage, SUITES[0]) is verdict
    assert seen == runs


@pytest.mark.parametrize("extended", [True, False])
def test_suites_run_in_a_copy_that_holds_the_extension_or_not(
    stage: SuiteStage, extended: bool
) -> None:
    stage.prepare(extended)
    assert (stage.copy / "tests-unit").is_dir()
    assert (stage.copy / "custom_nodes" / "comfyui-ipex" / "nodes").exists() == extended
    assert not list((stage.tree.path / "custom_nodes").iterdir())


def test_suites_run_in_a_patched_copy_without_the_extension(
    stage: SuiteStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(host_suites, "run_command", lambda what, command: commands.append(command))
    patched = dataclasses.replace(stage, patched=True)
    patched.prepare(extended=True)
    [command] = commands
    assert command[1:] == [str(REPOSITORY / "patches" / "apply.py"), str(stage.copy)]
    assert not list((stage.copy / "custom_nodes").iterdir())
    assert "--load-host" in patched.command(SUITES[0], extended=True)
    patched.prepare(extended=False)
    assert commands == [command]
    assert "--load-host" not in patched.command(SUITES[0], extended=False)


def test_the_shim_starts_servers_on_the_emulated_xpu_and_keeps_what_they_say(
    stage: SuiteStage,
) -> None:
    stage.prepare(extended=True)
    subprocess.run([stage.folder / "bin" / "python", "main.py", "--port", "1"], check=True)
    (log,) = stage.folder.glob("server-*.log")
    words = "-m xpu_emulator --device a770 -- main.py --port 1 --disable-auto-launch\n"
    assert log.read_text() == words


@pytest.mark.parametrize(
    ("lines", "loaded"),
    [
        ([], False),
        (["comfyui-ipex 0.1.0, torch 2.14.1: xpu:0 A770"], True),
        (["comfyui-ipex 0.1.0, torch 2.14.1: xpu:0 A770", "Starting server"], False),
        (["comfyui-ipex 0.1.0, torch 2.14.1: no Intel GPU"], False),
    ],
)
def test_every_server_must_say_that_it_loaded_the_extension(
    stage: SuiteStage, lines: list[str], loaded: bool
) -> None:
    stage.folder.mkdir()
    for number, line in enumerate(lines):
        (stage.folder / f"server-{number}.log").write_text(line)
    assert stage.loaded(SUITES[1]) == loaded
