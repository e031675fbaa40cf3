"""IPEX Optimize in a host's process on an emulated card: the same pictures, nothing left behind.

Emulated, never on Intel hardware; it says nothing about speed.
"""

from typing import Any

import hosts
import models
import numpy as np
import probes
import pytest
import servers
from conftest import REPOSITORY
from servers import Configuration, ServerPool

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

DEFAULTS = {
    "backend": "auto",
    "dtype": "auto",
    "channels_last": "auto",
    "compile": "auto",
    "mode": "auto",
    "fold": True,
    "verify": True,
}

CARD = ("-m", "xpu_emulator", "--device", "a770", "--")


@pytest.fixture(scope="module")
def seen(host_version: str) -> dict[str, Any]:
    """What the probe saw in a process of the host."""
    host = hosts.installed(host_version)
    arguments = (str(REPOSITORY), str(models.written()))
    return dict(probes.ask(host, "optimizing", *arguments, prefix=CARD))


def test_pictures_are_the_same_with_a_lora_before_and_after(seen: dict[str, Any]) -> None:
    found = seen["pictures_are_the_same_with_lora_before_and_after"]
    assert found == dict.fromkeys(found, True)
    assert len(found) == 10


def test_it_undoes_itself_when_the_model_leaves_or_another_clone_comes(
    seen: dict[str, Any],
) -> None:
    assert seen["it_undoes_itself"] == {
        "applied": True,
        "offloaded": False,
        "applied again": True,
        "dropped": False,
        "another is loaded": False,
        "compiled calls": 0,
    }


def test_an_interrupt_while_measuring_leaves_nothing_behind(seen: dict[str, Any]) -> None:
    found = seen["an_interrupt_leaves_nothing_behind"]
    assert found == dict.fromkeys(found, True)
    assert len(found) == 5


def test_a_partially_loaded_model_runs_as_found_and_the_report_says_so(
    seen: dict[str, Any],
) -> None:
    found = seen["a_partially_loaded_model_is_left_alone"]
    said = "Where that fails, or the model is loaded partially, steps run as found"
    assert said in found.pop("text"), "unmeasured, it claims nothing yet"
    assert found == {
        "same": True,
        "applied": False,
        "partial": True,
        "reason": True,
        "applied when whole": True,
    }


def test_the_report_tells_figures_and_reasons(seen: dict[str, Any]) -> None:
    found = seen["the_report_tells_what_was_measured"]
    assert found["same"]
    assert found["measured once"]
    assert "ms a step as found; kept:" in found["text"]
    assert "channels_last:" in found["text"]
    assert "Skipped compile: " in found["text"]
    assert "Skipped fold: the network has no BatchNorm" in found["text"]


def test_what_cannot_be_done_is_said_and_the_rest_goes_on(seen: dict[str, Any]) -> None:
    asked = seen["the_report_tells_what_was_measured"]["asked"]
    assert "Skipped compile: " in asked
    assert "graph: not used: " in asked or "Skipped graph: " in asked
    assert "Skipped ipex: it is not installed, and not needed." in asked
    assert "channels_last:" in asked


def test_a_dtype_that_was_asked_for_is_computed_in(seen: dict[str, Any]) -> None:
    found = seen["the_report_tells_what_was_measured"]
    text, dtype = found["bf16"]
    assert dtype == "torch.bfloat16"
    assert "bfloat16" in text
    assert found["bf16 is close"]


def test_patches_of_other_nodes_run_in_each_step(seen: dict[str, Any]) -> None:
    found = seen["code_of_other_nodes_is_run_in_each_step"]
    assert found["each"] > 0
    assert found["twice"]


def optimised(lora_after: bool, **wishes: Any) -> dict[str, Any]:
    """The workflow `lora` with IPEX Optimize before or after its LoRA."""
    workflow = servers.workflow("lora")
    loader, sampler = workflow["9"]["inputs"], workflow["6"]["inputs"]
    taken, user = (loader["model"], loader) if lora_after else (sampler["model"], sampler)
    user["model"] = ["10", 0]
    inputs = {**DEFAULTS, "model": taken, "latent_image": ["5", 0], **wishes}
    workflow["10"] = {"class_type": "IpexOptimize", "inputs": inputs}
    return workflow


def test_a_lora_before_or_after_gives_the_cpus_picture(pool: ServerPool, host_version: str) -> None:
    """Through a real server, in fp32. What is measured is not known before, and must not show."""
    plain = servers.without_our_nodes(servers.workflow("lora"))
    wanted = pool.get(Configuration(host_version)).run(plain).images[0].astype(int)
    server = pool.get(servers.on_device(host_version, "xpu"))
    unmeasured = {"channels_last": "on", "verify": False}
    for lora_after, wishes, said in (
        (True, unmeasured, "each step will run with channels_last."),
        (False, unmeasured, "each step will run with channels_last."),
        (True, {}, "ms a step as found; kept: "),
    ):
        run = server.run(optimised(lora_after, **wishes))
        assert said in run.said("10")
        assert np.abs(run.images[0].astype(int) - wanted).max() <= 1


@pytest.fixture(scope="module")
def compiled(host_version: str) -> dict[str, Any]:
    """What the probe of compiled blocks saw, on the CPU."""
    host = hosts.installed(host_version)
    arguments = (str(REPOSITORY), str(models.written()), "--cpu", "--use-pytorch-cross-attention")
    return dict(probes.ask(host, "compiling", *arguments, settings={"OMP_NUM_THREADS": "1"}))


def test_blocks_are_compiled_once_for_all_sizes_and_loras(compiled: dict[str, Any]) -> None:
    """By torch's own counter, in ComfyUI's own UNet."""
    found = compiled["blocks_are_compiled_once"]
    assert found["same"] == dict.fromkeys(found["same"], True)
    assert len(found["same"]) == 7
    assert found["lora does something"]
    assert found["sizes"] == [2, 2, 2, 2], "a norm, a transformer"
    assert found["lora"] == 2
    assert found["left"] == 0


def test_memory_that_runs_out_is_short_for_the_rest_of_one_sampling(
    compiled: dict[str, Any],
) -> None:
    found = compiled["memory_that_runs_out_is_short_for_one_sampling"]
    assert found["same"] == [True, True]
    as_found = ["channels_last", "channels_last", "as found", "as found"]
    assert found["steps"] == [*as_found, *["channels_last"] * 3]


def test_a_compiler_that_fails_is_a_reason_and_no_error(compiled: dict[str, Any]) -> None:
    found = compiled["a_compiler_that_fails_is_a_reason"]
    assert found["measured, same"]
    assert found["unmeasured, same"]
    assert "kept: as found." in found["measured"]
    assert "blocks: not used: BackendCompilerFailed" in found["measured"]
    assert "No working C++ compiler found" in found["measured"]
    assert "Not measured, as asked: each step will run with blocks." in found["unmeasured"]
    assert len(found["log"]) == 1
    assert any("float32: not measured; kept: as found." in line for line in found["XPU Report"])


@pytest.fixture(scope="module")
def networks(host_version: str) -> dict[str, Any]:
    """What the probe of upscalers and preprocessors saw."""
    host = hosts.installed(host_version)
    arguments = (str(REPOSITORY), str(models.written()))
    return dict(probes.ask(host, "optimizing_networks", *arguments, prefix=CARD))


def test_an_upscaler_is_optimised_on_weights_of_its_own(networks: dict[str, Any]) -> None:
    found = networks["upscaler"]
    assert "Applied without measuring: channels_last." in found.pop("text")
    assert found.pop("device") == "xpu:0"
    assert found == dict.fromkeys(found, True)
    assert len(found) == 5


def test_a_preprocessor_is_optimised_on_weights_of_its_own(networks: dict[str, Any]) -> None:
    found = networks["preprocessor"]
    assert "Applied without measuring: channels_last." in found.pop("text")
    assert found == dict.fromkeys(found, True)
    assert len(found) == 5
