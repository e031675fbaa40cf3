"""Batches through the real launcher, and clusters of several nodes on the loopback interface.

Run as a program, this module is a second node: `batches.py HEAD TOKEN ARGUMENTS...`. Ray's own
command refuses a second node on the loopback interface, where a cluster has no use but in tests.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes

REPOSITORY = Path(__file__).resolve().parent.parent

SECONDS = 300.0

END_SECONDS = 30.0

RAY_TRIES = 3

THERE = "The second node is there"


def environment(home: Path) -> dict[str, str]:
    """The launcher's environment: a home of its own, one thread, no network."""
    own = {"COMFYUI_IPEX_HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    kept = {key: value for key, value in os.environ.items() if key != "COMFYUI_DIR"}
    return {**kept, **own, "CUDA_VISIBLE_DEVICES": ""}


def host_arguments(folder: Path) -> list[str]:
    """Arguments of hosts that know the tests' checkpoints."""
    import models

    paths = folder / "model_paths.yaml"
    paths.write_text(models.model_paths(models.written()), encoding="utf-8")
    return ["--extra-model-paths-config", str(paths), "--disable-api-nodes"]


@dataclass
class Started:
    """A program of the launcher that runs, with what it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """All that it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self) -> int:
        """Its exit status, when it has ended."""
        return self.process.wait(SECONDS)

    def until(self, text: str) -> None:
        """Wait until it has printed `text`. Raises `AssertionError` if it ends before that."""
        wait_for(lambda: text in self.said or self.process.poll() is not None, self.log)
        assert text in self.said, self.said


def start(task: str, arguments: Sequence[str], home: Path, log: Path) -> Started:
    """Start `./comfyui-ipex TASK ARGUMENTS`."""
    command = [sys.executable, str(REPOSITORY / "comfyui-ipex"), task, *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment(home), stdout=file, stderr=subprocess.STDOUT
        )
    return Started(process, log)


def wait_for(condition: Any, log: Path) -> None:
    """Wait until `condition()` holds. Raises `TimeoutError` with the end of a log."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(log.read_text(encoding="utf-8", errors="replace")[-4000:])
        time.sleep(0.05)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The finished lines of a manifest."""
    path = folder / "manifest.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def done(folder: Path) -> Counter[str]:
    """How often each job was recorded as done."""
    return Counter(row["job"] for row in rows(folder) if row["status"] == "done")


def results(folder: Path) -> set[str]:
    """The names of the results in a folder."""
    return {path.name for path in folder.iterdir() if path.name[0] != "."} - {"manifest.jsonl"}


def second_node(
    address: str, token: Path, arguments: Sequence[str], home: Path, log: Path
) -> Started:
    """Start a node with one host on an emulated XPU, which joins the head at `address`."""
    import hosts

    python = hosts.installed(hosts.REFERENCE).python
    for _ in range(RAY_TRIES):
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(python), __file__, address, str(token), *arguments],
                env=environment(home),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        node = Started(process, log)
        # Ray gives itself 30 s to start.
        wait_for(lambda now=node: THERE in now.said or now.process.poll() is not None, log)
        if THERE in node.said:
            return node
    raise AssertionError(node.said)


def kill_node(node: Started) -> None:
    """End a node as a power cut would, as far as that goes for processes of one machine."""
    if node.process.poll() is None:
        os.killpg(node.process.pid, signal.SIGKILL)
        node.process.wait()


def hosts_left(home: Path) -> list[str]:
    """Command lines of servers of a launcher's home that do not end within a while."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        running = [
            line for line in processes.of_folder(str(home)).values() if "main.py --port" in line
        ]
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.2)


def be_a_node(address: str, token: Path, arguments: Sequence[str]) -> None:
    """Join the cluster and stay until this process is ended."""
    import types

    package = types.ModuleType("comfyui_ipex")
    package.__path__ = [str(REPOSITORY)]
    sys.modules["comfyui_ipex"] = package
    from comfyui_ipex.batch import machine, plans, ray_settings, remote
    from comfyui_ipex.launcher.releases import REFERENCE

    on_cpu = plans.plan_servers(REFERENCE, "cpu", arguments)[0]
    emulated = token.with_name("emulated-python")
    tests = Path(__file__).parent
    emulated.write_text(
        f"#!/bin/sh\nPYTHONPATH={tests} exec {on_cpu.python} -m xpu_emulator --device a770 -- "
        '"$@"\n'
    )
    emulated.chmod(0o755)
    found = [
        dataclasses.replace(
            on_cpu,
            name="xpu:0",
            python=str(emulated),
            setting="xpu:0",
            arguments=(*arguments, "--force-fp32"),
        )
    ]
    described = token.with_name("second-node.json")
    machine.describe(found, described)
    settings: Mapping[str, str] = ray_settings.environment(ray_settings.LOOPBACK, token)
    os.environ.update({**settings, remote.NODE_FILE: str(described)})
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    parameters = RayParams(
        gcs_address=address,
        node_ip_address=ray_settings.LOOPBACK,
        node_name="second",
        num_cpus=0,
        num_gpus=0,
        resources=machine.resources(found),
        min_worker_port=0,
        max_worker_port=0,
        node_manager_port=0,
        object_store_memory=150 << 20,
        include_log_monitor=False,
    )
    Node(parameters, head=False, shutdown_at_exit=True, spawn_reaper=False)
    sys.stdout.write(f"{THERE}\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    be_a_node(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
