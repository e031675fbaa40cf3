"""Run a program of tests/host/probes in a host's own process and read its answer."""

import functools
import json
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import hosts
from comfyui_ipex.launcher.folders import child_environment

# The emulator needs a torch that sees no other accelerator.
NO_REAL_GPU = {"CUDA_VISIBLE_DEVICES": ""}

FOLDER = Path(__file__).parent / "host" / "probes"


Row = dict[str, Any]

EMULATED = ("-m", "xpu_emulator")

WARM = frozenset(
    (
        "architectures",
        "attention",
        "decisions",
        "defects",
        "full_load",
        "optimizing",
        "optimizing_networks",
        "placement",
        "preprocessing",
        "samplers",
        "upscaling",
        "upscaling_memory",
    )
)
"""Probes that ask nothing about the order of imports before the host's own."""

TOLD = 4000
"""Characters of what a probe wrote last that a failure quotes."""


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
    started = _started(host, probe, arguments, prefix, settings)
    if probe in WARM and prefix[: len(EMULATED)] == EMULATED:
        code, output, errors = warm(host.python).ask(started)
    else:
        done = subprocess.run(**started, capture_output=True, check=False)
        code, output, errors = done.returncode, done.stdout, done.stderr
    assert code == 0, f"{probe} ended with {code}:\n{errors[-TOLD:]}"
    return json.loads(output.strip().splitlines()[-1])


class WarmProcess:
    """A Python of a host that has imported what hosts import; see warm_process.py."""

    def __init__(self, python: Path) -> None:
        settings = {**NO_REAL_GPU, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("warm_process.py"))],
            env={**child_environment(), "PYTHONPATH": str(Path(__file__).parent), **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        weakref.finalize(self, self.process.communicate)

    def ask(self, started: Mapping[str, Any]) -> tuple[int, str, str]:
        """What a program, told as to `subprocess`, ends with, prints and complains of."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        arguments = started["args"][1 + len(EMULATED) :]
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as errors:
            wanted = {"arguments": arguments, "cwd": str(started["cwd"]), "env": started["env"]}
            wanted |= {"out": out.name, "errors": errors.name}
            self.process.stdin.write(json.dumps(wanted) + "\n")
            self.process.stdin.flush()
            code = self.process.stdout.readline()
            assert code, f"{' '.join(self.process.args)} ended"
            return int(code), out.read(), errors.read()


@functools.lru_cache(maxsize=1)
def warm(python: Path) -> WarmProcess:
    """The warm process of a host's environment; that of another one ends."""
    return WarmProcess(python)


def _started(
    host: hosts.TestHost,
    probe: str,
    arguments: Sequence[str],
    prefix: Sequence[str],
    settings: Mapping[str, str] | None,
) -> dict[str, Any]:
    """What `subprocess` is told about the program."""
    environment = {**child_environment(), "PYTHONPATH": str(Path(__file__).parent)}
    return {
        "args": [str(host.python), *prefix, str(FOLDER / f"{probe}.py"), *arguments],
        "cwd": host.tree.path,
        "env": environment | {**NO_REAL_GPU, **(settings or {})},
        "text": True,
    }


def rows(
    host: hosts.TestHost,
    probe: str,
    *arguments: str,
    prefix: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Iterator[Row]:
    """The rows that a probe prints, JSON with a "name" first, each when it is printed.

    The rest is as for `ask`.
    """
    started = _started(host, probe, arguments, prefix, settings)
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
        subprocess.Popen(**started, stdout=subprocess.PIPE, stderr=said) as process,
    ):
        assert process.stdout is not None
        yield from (json.loads(line) for line in process.stdout if line.startswith('{"name"'))
        code = process.wait()
        said.seek(0)
        assert code == 0, f"{probe} ended with {code}:\n{said.read()[-TOLD:]}"


def side_by_side(
    names: Sequence[str], jobs: int, run: Callable[[Sequence[str]], Iterator[Row]]
) -> Iterator[Row]:
    """The rows of `names`, which `run` makes for a share of them, from `jobs` threads at once.

    What a share did not come to before it failed is a row as well: its "failed" says why.
    """
    found: Queue[Row | None] = Queue()

    def share(wanted: Sequence[str]) -> None:
        missing, why = list(wanted), "no row came"
        try:
            for row in run(wanted):
                missing.remove(row["name"])
                found.put(row)
        except AssertionError as error:
            why = str(error)
        finally:
            for name in missing:
                found.put({"name": name, "failed": why})
            found.put(None)

    shares = [names[at::jobs] for at in range(min(jobs, len(names)))]
    threads = [threading.Thread(target=share, args=(one,)) for one in shares]
    for thread in threads:
        thread.start()
    running = len(threads)
    while running:
        row = found.get()
        if row is None:
            running -= 1
        else:
            yield row
    for thread in threads:
        thread.join()
