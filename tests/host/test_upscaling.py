"""Upscale models under each host's memory management, on an emulated card."""

from typing import Any

import hosts
import models
import probes
import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.host

CARD = ("-m", "xpu_emulator", "--device", "a770", "--")

# fp16 of the test model is off by less than this from fp32.
HALF = 2 / 255


@pytest.fixture(scope="module")
def seen(host_version: str) -> dict[str, Any]:
    """What the probe saw in a process of the host."""
    host = hosts.installed(host_version)
    arguments = (str(REPOSITORY), str(models.written()))
    return dict(probes.ask(host, "upscaling", *arguments, prefix=CARD))


def test_a_model_is_loaded_once_and_unloads_with_all_others(seen: dict[str, Any]) -> None:
    found = seen["the_model_is_loaded_once_and_unloads_with_the_others"]
    assert found["after one"] > 0
    assert found == {"after one": found["after one"], "entries": 1, "left": 0}


def test_memory_does_not_grow_over_runs(seen: dict[str, Any]) -> None:
    first, *_ = found = seen["many_runs_do_not_grow"]
    assert first > 0
    assert found[1] == found[3] == found[5]
    assert found[2] == found[4] == found[1]


def test_after_an_error_or_an_interrupt_the_model_is_off_the_card(seen: dict[str, Any]) -> None:
    found = seen["an_error_takes_the_model_off_the_card"]
    assert found == {"error": 0, "interrupt": 0, "entries": 0, "works again": [1, 128, 128, 3]}


def test_an_interrupt_ends_the_search_for_a_models_halo(seen: dict[str, Any]) -> None:
    found = seen["an_interrupt_ends_the_search_for_the_halo"]
    assert found == {"pictures": 1, "known": 0, "left": 0, "again": True}


def test_pressure_evicts_the_whole_model_and_nothing_loads_it_in_parts(
    seen: dict[str, Any],
) -> None:
    found = seen["pressure_evicts_the_model_whole"]
    assert found == {"left": 0, "same": True, "devices": ["xpu:0"]}


def test_the_hosts_own_nodes_and_ours_take_each_others_models(seen: dict[str, Any]) -> None:
    found = seen["the_hosts_own_node_takes_the_model"]
    assert found["fp32"] <= 1e-5
    assert found["fp32 again"] == found["fp16 again"] == 0
    assert found["fp16"] <= HALF
    assert found["host's loader"] <= HALF


def test_sizes_channels_and_tiles_are_as_asked(seen: dict[str, Any]) -> None:
    found = dict(seen["sizes_channels_and_tiles"])
    info = found.pop("info")
    assert found == {
        "own": [1, 160, 160, 3],
        "scale_by": [1, 120, 120, 3],
        "width": [1, 100, 100, 3],
        "both": [1, 70, 50, 3],
        "gray": [1, 160, 160, 1],
        "rgba": [1, 160, 160, 4],
        "batch": [3, 80, 80, 3],
        "tiles differ by": 0,
    }
    assert "halo: 19 pixels, exact" in info
    assert "architecture: ESRGAN" in info


def test_a_file_that_holds_no_model_is_named_with_the_reason(seen: dict[str, Any]) -> None:
    reasons = {
        "empty.safetensors": "is empty",
        "cut.safetensors": "no whole safetensors file",
        "text.pth": "no checkpoint at all",
        "code.pth": "could run any code",
        "other.pth": "no architecture that spandrel knows",
    }
    said = seen["wrong_files_are_named"]
    assert said.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert name in said[name]
        assert reason in said[name]


def test_masks_are_filled_and_models_for_other_purposes_get_a_clear_answer(
    seen: dict[str, Any],
) -> None:
    found = seen["models_for_other_purposes_get_a_clear_answer"]
    assert found["shade"] == [0.25]
    assert found["kept"], "what was not masked changed"
    assert "Inpaint with Model (IPEX)" in found["inpainting"]
    assert "aligned face in a picture of 512x512; this picture is 64x64" in found["face"]
    assert "takes no mask" in found["no mask"]
    assert "Resize the mask" in found["mask size"]
