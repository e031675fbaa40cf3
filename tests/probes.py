"""Run a program of tests/host/probes in a host's own process and read its answer."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hosts
from comfyui_ipex.launcher.folders import child_environment

# The emulator needs a torch that sees no other accelerator.
NO_REAL_GPU = {"CUDA_VISIBLE_DEVICES": ""}

FOLDER = Path(__file__).parent / "host" / "probes"


def ask(
    host: hosts.TestHost,
    probe: str,
    *arguments: str,
    prefix: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Any:
    """The JSON that a probe prints as its last line.

    `prefix` stands between the interpreter and the probe; `settings` join the environment.
    Raises `AssertionError` if it fails.
    """
    environment = {**child_environment(), "PYTHONPATH": str(Path(__file__).parent)}
    environment |= {**NO_REAL_GPU, **(settings or {})}
    done = subprocess.run(
        [str(host.python), *prefix, str(FOLDER / f"{probe}.py"), *arguments],
        cwd=host.tree.path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{probe} ended with {done.returncode}:\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])
