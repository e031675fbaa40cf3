"""Ask a ComfyUI for its state: monitor.py --instance NAME --url URL [--textfiles DIR].

Writes what it learns for node_exporter's textfile collector. Failures in a row are counted in the
folder RUNTIME_DIRECTORY; the last of --restart-after ends with status 1, on which systemd restarts
the server, and counting begins anew.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 10.0

# Of each device in /system_stats: field -> metric and what it means.
DEVICE_METRICS = {
    "vram_total": ("comfyui_device_memory_bytes", "Memory of the device."),
    "vram_free": ("comfyui_device_memory_free_bytes", "Memory of the device that is free."),
}


@dataclass(frozen=True)
class ServiceState:
    devices: Sequence[Mapping[str, Any]]
    queued: int
    """Prompts that wait or run."""


def fetch(url: str) -> Any:
    """The JSON at an address. Raises `OSError` or `ValueError`."""
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return json.loads(answer.read())


def ask(url: str) -> ServiceState | None:
    """The state of the server, or None if it does not answer as a ComfyUI does."""
    try:
        stats = fetch(f"{url}/system_stats")
        queue = fetch(f"{url}/prompt")
        return ServiceState(tuple(stats["devices"]), int(queue["exec_info"]["queue_remaining"]))
    except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError) as error:
        sys.stderr.write(f"{url} does not answer: {error}\n")
        return None


def labels(**values: object) -> str:
    """Prometheus' labels in their text form."""
    escaped = {
        name: str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for name, value in values.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def metrics(instance: str, state: ServiceState | None, failures: int) -> str:
    """The text for node_exporter."""
    mine = labels(instance_name=instance)
    rows = [
        ("comfyui_up", "Whether the server answered.", [f"{mine} {int(state is not None)}"]),
        ("comfyui_failures", "Failures in a row.", [f"{mine} {failures}"]),
    ]
    if state is not None:
        rows.append(
            ("comfyui_queue_remaining", "Prompts that wait or run.", [f"{mine} {state.queued}"])
        )
        for field, (name, meaning) in DEVICE_METRICS.items():
            values = [
                labels(instance_name=instance, device=device["name"], index=device.get("index"))
                + f" {device[field]}"
                for device in state.devices
                if field in device
            ]
            rows.append((name, meaning, values))
    return "".join(
        f"# HELP {name} {meaning}\n# TYPE {name} gauge\n"
        + "".join(f"{name}{value}\n" for value in values)
        for name, meaning, values in rows
    )


def write(text: str, path: Path) -> None:
    """Replace a file at once: the collector never reads half of it."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o644)
    draft.rename(path)


def counted(counter: Path, failed: bool) -> int:
    """How often in a row it failed, this time included; kept in a file."""
    try:
        before = int(counter.read_text(encoding="ascii"))
    except (OSError, ValueError):
        before = 0
    failures = before + 1 if failed else 0
    counter.write_text(str(failures), encoding="ascii")
    return failures


def main(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Ask once; returns 1 if the server is to be restarted."""
    parser = argparse.ArgumentParser(description="Ask a ComfyUI for its state.")
    parser.add_argument("--instance", required=True, help="its name in the metrics")
    parser.add_argument("--url", required=True, help="where it listens")
    parser.add_argument("--textfiles", type=Path, help="folder of the textfile collector")
    parser.add_argument("--restart-after", type=int, default=0, help="failures; 0 is never")
    given = parser.parse_args(argv)
    counter = Path(environ["RUNTIME_DIRECTORY"]) / "failures"
    state = ask(given.url)
    failures = counted(counter, state is None)
    if given.textfiles is not None:
        text = metrics(given.instance, state, failures)
        write(text, given.textfiles / f"{given.instance}.prom")
    if not given.restart_after or failures < given.restart_after:
        return 0
    counter.unlink()
    sys.stderr.write(f"{given.instance} did not answer {failures} times in a row: restart\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
