"""What placing does to a component and what not, in a host's process on two emulated cards."""

from typing import Any

import hosts
import models
import probes
import pytest
from conftest import REPOSITORY

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

CARDS = ("-m", "xpu_emulator", "--device", "a770", "--count", "2", "--")


@pytest.fixture(scope="module")
def seen(host_version: str) -> dict[str, Any]:
    """What the probe saw in a process of the host."""
    host = hosts.installed(host_version)
    arguments = (str(REPOSITORY), str(models.written()))
    return dict(probes.ask(host, "placement", *arguments, prefix=CARDS))


def test_two_cards_take_turns_with_one_checkpoint_patched_or_not(seen: dict[str, Any]) -> None:
    found = seen["two_cards_take_turns_with_one_checkpoint"]
    assert found["same"] == dict.fromkeys(found["same"], True)
    assert len(found["same"]) == 11


def test_merging_and_hooks_keep_the_device(seen: dict[str, Any]) -> None:
    assert seen["merging_and_hooks_keep_the_device"] == {
        "merge": True,
        "merge is on": "xpu:1",
        "hooks": True,
        "hooks do something": True,
    }


def test_a_clone_that_is_dropped_leaves_the_original_where_it_was(seen: dict[str, Any]) -> None:
    one = {"entry agrees with its model": True, "same": True, "where": ["xpu:0"], "entries": 1}
    assert seen["a_clone_that_is_dropped_leaves_the_original_alone"] == {
        "plain": one,
        "lora": one,
        "dead": 0,
    }


def test_a_text_encoder_is_used_where_unload_models_has_left_it(seen: dict[str, Any]) -> None:
    name = "a_text_encoder_is_used_where_unload_models_has_left_it"
    assert seen[name] == {"a placed one left": True, "it left": True}


def test_what_is_given_is_not_changed(seen: dict[str, Any]) -> None:
    assert seen["what_is_given_is_not_changed"] == []


def test_a_vae_computes_in_what_its_device_can(seen: dict[str, Any]) -> None:
    assert seen["a_vae_computes_in_what_its_device_can"] == {
        "here": "torch.bfloat16",
        "cpu": ["torch.float32", "torch.float32"],
        "back": ["torch.bfloat16", "torch.bfloat16"],
        "copied once": True,
        "shared": True,
        "close": True,
        "second": True,
        "back again": True,
        "encoded": True,
        "where": ["cpu"],
    }


def test_weights_wait_on_the_offload_device(seen: dict[str, Any]) -> None:
    assert seen["weights_wait_on_the_offload_device"] == {
        "same": True,
        "waits": ["xpu:1"],
        "then": ["cpu"],
    }


def test_an_absent_device_is_said_on_the_node_and_means_auto(seen: dict[str, Any]) -> None:
    found = seen["an_absent_device_is_said_and_means_auto"]
    assert len(found) == 4
    for text in found.values():
        assert text.startswith("Runs on xpu:0.\n")
        assert "is set to 'cuda:3', which this machine does not have" in text


def test_control_nets_run_with_their_model_or_on_their_own(seen: dict[str, Any]) -> None:
    found = dict(seen["control_nets_run_with_their_model_or_on_their_own"])
    assert "no model is connected" in found.pop("no model")
    assert "ControlLora cannot be placed on xpu:1" in found.pop("adapter")
    assert found == dict.fromkeys(found, True)
    assert len(found) == 5


def test_previews_follow_the_model(seen: dict[str, Any]) -> None:
    assert seen["previews_follow_the_model"] == {"previews": 1}


def test_upscalers_have_weights_of_their_own_in_the_dtype_of_their_device(
    seen: dict[str, Any],
) -> None:
    found = seen["upscalers_have_weights_of_their_own"]
    assert found.keys() == {"ours", "theirs"}
    for one in found.values():
        assert one == {
            "early": True,
            "late": True,
            "cpu": True,
            "dtypes": ["torch.float16", "torch.float16", "torch.float32"],
            "where": [["xpu:1"], ["cpu"]],
            "apart": True,
        }
