"""Pictures, widgets and names that nobody should send: each gives a result or a clear error."""

import sys
from typing import Any

import hosts
import models
import node_files
import probes
import pytest
from comfyui_ipex import nodes
from conftest import REPOSITORY

pytestmark = pytest.mark.host

EXAMPLES = 3

MANY_EXAMPLES = 150

CPU = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def seen(pytestconfig: pytest.Config) -> dict[str, Any]:
    """What the probe counted. hypothesis is in the reference host's environment only."""
    campaign = pytestconfig.getoption("--campaign")
    names = [*nodes.NODE_CLASS_MAPPINGS] if campaign else [*node_files.SMALL]
    names = [name for name in names if name not in node_files.SLOW]
    node_files.written(names)
    arguments = (str(models.written()), str(REPOSITORY))
    arguments += (str(MANY_EXAMPLES if campaign else EXAMPLES), *names)
    host = hosts.installed(hosts.REFERENCE)
    return dict(probes.ask(host, "hostile", *arguments, settings=CPU))


def test_hostile_pictures_widgets_and_names_give_results_or_clear_errors(
    seen: dict[str, Any],
) -> None:
    counts = {name: value for name, value in seen.items() if name != "unclear"}
    sys.stdout.write(f"Hostile input: {counts}, unclear: {len(seen['unclear'])}\n")
    assert seen["unclear"] == []
    assert min(seen["results"], seen["clear errors"], seen["refused by the host"]) > 30


def test_hostile_input_takes_no_absurd_memory(seen: dict[str, Any]) -> None:
    assert seen["grew"] < seen["allowed"]
