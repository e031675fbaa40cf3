"""What stands for a component on a worker does what nodes ask of it, or refuses by name."""

from typing import Any

import hosts
import models
import probes
import pytest
from conftest import REPOSITORY

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

CARD = ("-m", "xpu_emulator", "--device", "a770", "--")

NEWER = {"decode_tiled_", "latent_channels", "model_size"}
"""What older hosts may lack."""

REFUSED = {
    "a_vae": {
        "first_stage_model": "refused: 'first_stage_model'",
        "patcher": "refused: 'patcher'",
        "decode_tiled_": "refused: 'first_stage_model'",
    },
    "a_text_encoder": {
        "load_model": "refused: 'load_model'",
        "network": "refused: 'cond_stage_model.encode_token_weights'",
        "hooks": "refused: 'cond_stage_model.reset_clip_options'",
    },
    "a_controlnet": {"weights": "refused: 'control_model.state_dict'"},
}


@pytest.fixture(scope="module")
def seen(host_version: str) -> dict[str, Any]:
    """What the probe saw in a process of the host."""
    arguments = (str(REPOSITORY), str(models.written()))
    host = hosts.installed(host_version)
    return dict(probes.ask(host, "proxies", *arguments, prefix=CARD))


@pytest.mark.parametrize("component", REFUSED)
def test_what_nodes_ask_of_a_component_is_the_same_or_refused_by_name(
    seen: dict[str, Any], component: str
) -> None:
    found = seen[component]
    assert found["missing"] == []
    told = {name: said for name, said in found["asked"].items() if said != "same"}
    assert {name for name, said in told.items() if said == "absent"} <= NEWER
    assert {name: said for name, said in told.items() if said != "absent"} == REFUSED[component]


def test_a_pipeline_makes_the_pictures_of_the_nodes_it_stands_for(seen: dict[str, Any]) -> None:
    expected = {"here": [True] * 4, "there": [True] * 4, "differ": [True] * 2}
    assert seen["a_pipeline"] == expected
