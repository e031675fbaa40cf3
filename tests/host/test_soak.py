"""Many prompts, interrupts and changes of models leave the process as it was. Emulated cards."""

import sys
from typing import Any

import hosts
import models
import node_files
import probes
import pytest
from comfyui_ipex import nodes
from conftest import REPOSITORY

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

CARDS = ("-m", "xpu_emulator", "--device", "a770", "--count", "2", "--memory", "3GiB", "--")

SAMPLE = (
    "IpexSelectDevice",
    "IpexUpscaleImage",
    "IpexTilePreprocessor",
    "IpexTEEDPreprocessor",
)

PROMPTS = 32

MANY_PROMPTS = 500

MOST_MIB_A_PROMPT = 0.25
"""Growth of the process that malloc's own disorder may explain."""


@pytest.fixture(scope="module")
def seen(host_version: str, pytestconfig: pytest.Config) -> dict[str, Any]:
    """What the probe saw; the full form mixes all nodes."""
    campaign = pytestconfig.getoption("--campaign")
    left_out = {*node_files.SLOW, *node_files.LARGE}
    names = [n for n in nodes.NODE_CLASS_MAPPINGS if n not in left_out] if campaign else SAMPLE
    node_files.written(names)
    count = str(MANY_PROMPTS if campaign else PROMPTS)
    arguments = (str(models.written()), str(REPOSITORY), count, *names)
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    host = hosts.installed(host_version)
    return dict(probes.ask(host, "soak", *arguments, prefix=CARDS, settings=settings))


def test_every_prompt_gives_a_result_or_was_interrupted(seen: dict[str, Any]) -> None:
    assert seen["wrong"] == []
    assert seen["prompts"] == seen["results"] + seen["interrupted"]
    assert seen["interrupted"] > 0


def test_memory_threads_and_files_come_back_to_their_level(seen: dict[str, Any]) -> None:
    first, last = seen["looks"][0], seen["looks"][-1]
    assert [one["device bytes"] for one in seen["looks"]] == [0] * len(seen["looks"])
    assert last["threads"] <= first["threads"] + 1
    assert last["files"] <= first["files"] + 2
    assert seen["slope"]["threads"] < 0.05
    if seen["prompts"] >= MANY_PROMPTS:
        assert seen["slope"]["host MiB"] < MOST_MIB_A_PROMPT, seen["slope"]


def test_the_slope_of_every_figure_is_told(seen: dict[str, Any], host_version: str) -> None:
    """`./test --campaign` shows what passing tests write."""
    first, last = seen["looks"][0], seen["looks"][-1]
    assert seen["slope"].keys() == first.keys()
    counts = {name: seen[name] for name in ("prompts", "results", "interrupted")}
    sys.stdout.write(f"Soak on ComfyUI {host_version}: {counts}\n")
    for name, slope in seen["slope"].items():
        figures = f"{first[name]:.1f} -> {last[name]:.1f}, {slope:+.4f} a prompt"
        sys.stdout.write(f"  {name:14} {figures}\n")
