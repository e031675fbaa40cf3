"""`./test --host-suites`: ComfyUI's own tests go no worse with this extension than without.

Each suite runs with the extension. Only if a test then does not pass, the suite runs without it
as well: what does not pass there either (some tests need the internet) is not ours. With
`--patched` the patches of `patches/` take the extension's place.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..launcher.console import run_command, say, step, warn
from ..launcher.environment import Environment
from ..launcher.folders import REPOSITORY, child_environment, exclusive, user_cache
from ..launcher.hosts import HostTree
from ..launcher.installation import EXTENSION_NAME, link_extension
from ..launcher.releases import REFERENCE, RELEASES
from ..launcher.server import free_port

PROBES = REPOSITORY / "tests" / "host" / "probes"
PATCH = REPOSITORY / "patches" / "apply.py"

# Long enough for a server's start on a busy machine.
TEST_SECONDS = 600

EMULATOR = ("-m", "xpu_emulator", "--device", "a770", "--")

# pytest's exit statuses for "all passed" and "some failed"; others mean that it stopped early.
FINISHED = (0, 1)


Outcomes = dict[str, str]
"""Test -> "passed", "skipped" or "failed"."""

# From worst to best. A test is absent when its module could not be imported, for example.
RANKS = ("absent", "failed", "skipped", "passed")


@dataclass(frozen=True)
class HostSuite:
    """A part of ComfyUI's own tests."""

    name: str
    paths: tuple[str, ...]
    """Where it lies; releases differ, and what a tree does not have is left out."""
    serves: bool
    """Whether the tests talk to a server that they start, rather than import the host."""


SUITES = (
    HostSuite("tests-unit", ("tests-unit",), serves=False),
    HostSuite(
        "execution",
        (
            "tests/inference/test_execution.py",
            "tests/inference/test_async_nodes.py",
            "tests/execution",
        ),
        serves=True,
    ),
)


@dataclass(frozen=True)
class SuiteStage:
    """Where suites run: a copy of the host's tree, for the tests write into theirs."""

    folder: Path
    tree: HostTree
    python: Path
    emulated: bool
    patched: bool = False
    """Whether "extended" means the patches, and not the extension."""

    @property
    def copy(self) -> Path:
        """The copy of the tree; always at the same place, so that its bytecode is found again."""
        return self.folder / "tree"

    @property
    def ours(self) -> str:
        """What the suites run with, in words."""
        return "the patches" if self.patched else "this extension"

    @property
    def device(self) -> str:
        """What the suites run on, in words."""
        return "emulated XPU" if self.emulated else "CPU"

    def prepare(self, extended: bool) -> None:
        """Make a fresh copy, with the extension or the patches or with neither, and a shim.

        The suites start `python main.py`; the shim is that `python`.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.tree.path, self.copy, ignore=shutil.ignore_patterns("__pycache__"))
        if extended and self.patched:
            command = [sys.executable, str(PATCH), str(self.copy)]
            run_command(f"Patching ComfyUI {self.tree.version}", command)
        elif extended:
            link_extension(self.copy)
        shim = self.folder / "bin" / "python"
        shim.parent.mkdir()
        words = [str(self.python), *(EMULATOR if self.emulated else ()), '"$@"']
        words += [*(() if self.emulated else ("--cpu",)), "--disable-auto-launch"]
        log = shlex.quote(str(self.folder))
        shim.write_text(f'#!/bin/sh\nexec {" ".join(words)} >"{log}/server-$$.log" 2>&1\n')
        shim.chmod(0o755)

    def command(self, suite: HostSuite, extended: bool) -> list[str]:
        paths = [path for path in suite.paths if (self.copy / path).exists()]
        plugins = ["-p", "no:cacheprovider", "-p", "host_suite_plugin"]
        command = ["-m", "pytest", "-q", *plugins, f"--junitxml={self.report}", *paths]
        command.append(f"--timeout={TEST_SECONDS}")
        if suite.serves:
            command += ["--port", str(free_port()), "--output_dir", str(self.folder / "output")]
            return [str(self.python), *command]
        if extended and self.patched:
            command.append("--load-host")
        elif extended:
            command += ["--load-pack", str(self.copy / "custom_nodes" / EXTENSION_NAME)]
        if self.emulated:
            return [str(self.python), *EMULATOR, *command]
        return [str(self.python), *command, "--cpu-only"]

    @property
    def report(self) -> Path:
        return self.folder / "report.xml"

    def environment(self) -> dict[str, str]:
        path = os.environ["PATH"]
        return {
            "OMP_NUM_THREADS": "1",
            **child_environment(),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{path}",
            "PYTHONPATH": f"{PROBES}{os.pathsep}{PROBES.parent.parent}",
            # An emulated XPU needs a process that sees no other card.
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
        }

    def run_suite(self, suite: HostSuite, extended: bool) -> Outcomes:
        """Run a suite and return its outcomes; none if pytest did not come to its end."""
        self.prepare(extended)
        with_or_without = "with" if extended else "without"
        title = f"ComfyUI {self.tree.version}'s {suite.name} {with_or_without} {self.ours}"
        output = self.folder / "pytest.log"
        with step(f"{title}, on the {self.device}"), output.open("w") as log:
            done = subprocess.run(
                self.command(suite, extended),
                cwd=self.copy,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        outcomes = read_junit(self.report) if done.returncode in FINISHED else {}
        say(f"   {describe_outcomes(outcomes)}")
        return outcomes

    def loaded(self, suite: HostSuite) -> bool:
        """True if each process of the last run that holds the host says that it loaded us."""
        logs = list(self.folder.glob("server-*.log" if suite.serves else "pytest.log"))
        devices = "xpu:0" if self.emulated else "no Intel GPU"
        line = re.compile(rf"comfyui-ipex \S+, torch \S+: {devices}")
        return bool(logs) and all(line.search(log.read_text(errors="replace")) for log in logs)


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


def describe_outcomes(outcomes: Outcomes) -> str:
    """How many tests had which outcome: "158 passed, 2 failed"."""
    values = list(outcomes.values())
    counts = [(values.count(outcome), outcome) for outcome in reversed(RANKS)]
    return ", ".join(f"{count} {outcome}" for count, outcome in counts if count) or "no test ran"


def check_suite(stage: SuiteStage, suite: HostSuite) -> bool:
    """True if no test of a suite goes worse with the extension; says what does."""
    extended = stage.run_suite(suite, extended=True)
    if "passed" not in extended.values():
        warn(f"No test of {suite.name} passed. See {stage.folder}")
        return False
    if not stage.loaded(suite):
        warn(f"Not every process of {suite.name} loaded {stage.ours}. See {stage.folder}")
        return False
    if not imperfect(extended):
        return True
    bare = stage.run_suite(suite, extended=False)
    found = worse(extended, bare)
    if found:
        # Some of ComfyUI's tests measure time: what only a busy machine failed passes now.
        for name, how in found.items():
            say(f"   {name}: {how}; once more:")
        found = confirmed(found, worse(stage.run_suite(suite, extended=True), bare))
    for name, how in found.items():
        warn(f"{name}: {how} with {stage.ours}. See {stage.folder}")
    return not found


def confirmed(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    return {name: how for name, how in second.items() if name in first}


def build_parser() -> argparse.ArgumentParser:
    """The arguments after `./test --host-suites`."""
    made = argparse.ArgumentParser(
        prog="./test --host-suites",
        description="Run ComfyUI's own tests with this extension; fail if one goes worse.",
    )
    made.add_argument("version", nargs="?", default=REFERENCE, choices=RELEASES)
    made.add_argument("--emulated", action="store_true", help="on the emulated XPU, not the CPU")
    made.add_argument("--patched", action="store_true", help="with patches/ in its place")
    made.add_argument("--suite", choices=[suite.name for suite in SUITES], help="only this one")
    return made


def run_suites(environment: Environment, tree: HostTree, arguments: argparse.Namespace) -> int:
    """Run the chosen suites on `tree`; returns the exit status."""
    say(tree.describe())
    wanted: Sequence[HostSuite] = [s for s in SUITES if arguments.suite in (None, s.name)]
    name = f"{tree.version}-patched" if arguments.patched else tree.version
    folder = user_cache() / "host-suites" / name
    with exclusive(folder.with_name(folder.name + ".lock")):
        stage = SuiteStage(folder, tree, environment.python, arguments.emulated, arguments.patched)
        good = [check_suite(stage, suite) for suite in wanted]
    return 0 if all(good) else 1
